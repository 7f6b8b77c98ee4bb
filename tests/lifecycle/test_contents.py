"""What a checkpoint holds, by the headers of its files alone."""

import numpy as np
import pytest

import holdfast
from holdfast import IntegrityError, NotFoundError, keep, when


@pytest.fixture
def checkpoint(tmp_path):
    with holdfast.open(tmp_path / "store") as store:
        with store.run("r", save=when.never(), keep=keep.all()) as run:
            tied = np.zeros((2, 3), "f4")
            run.attach(model={"b": tied, "a": np.ones(5, "i8"), "none": np.zeros((0, 4))}, empty={})
            run.save(0, {"loss": 1.0}).wait()
        yield store.latest("r")


def test_tensors_are_told_by_name_without_being_read(checkpoint):
    found = {one.name: (one.dtype, one.shape, one.nbytes) for one in checkpoint.tensors("model")}
    assert found == {
        "a": ("I64", (5,), 40), "b": ("F32", (2, 3), 24), "none": ("F64", (0, 4), 0)
    }  # fmt: skip
    assert list(found) == sorted(found)
    assert {len(one.digest) for one in checkpoint.tensors("model")} == {64}
    assert checkpoint.tensors("empty") == ()
    # What lies behind the header does not matter here.
    file = checkpoint.path / "model.safetensors"
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-1] + b"\x55")
    assert len(checkpoint.tensors("model")) == 3


def test_an_item_that_is_not_there_and_a_file_that_is_gone_are_told_apart(checkpoint):
    with pytest.raises(NotFoundError, match="optimizer"):
        checkpoint.tensors("optimizer")
    (checkpoint.path / "model.safetensors").unlink()
    with pytest.raises(IntegrityError, match=r"model.safetensors"):
        checkpoint.tensors("model")
