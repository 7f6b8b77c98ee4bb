"""A checkpoint that was durable once is never mistaken for a save that was cut off."""

import logging

import numpy as np

import holdfast
from holdfast import when


def make(folder):
    with holdfast.open(folder) as store, store.run("r", save=when.never()) as run:
        run.attach(model={"w": np.arange(8.0)})
        return [run.save(step).wait() for step in range(3)]


def test_opening_a_run_keeps_the_files_of_a_checkpoint_whose_manifest_was_lost(tmp_path, caplog):
    lost = make(tmp_path)[1]
    (lost.path / "manifest.json").unlink()
    for _ in range(2):
        with caplog.at_level(logging.WARNING), holdfast.open(tmp_path) as store:
            with store.run("r", save=when.never()) as run:
                run.attach(model={"w": np.zeros(8)})
                assert run.resume() == 3
            assert (lost.path / "model.safetensors").exists()
            assert [c.info.damaged for c in store.checkpoints("r", order_by="step")] == [
                False,
                True,
                False,
            ]
    assert "its manifest is missing" in caplog.text


def test_a_save_that_was_cut_off_is_swept(tmp_path):
    checkpoint = make(tmp_path)[0]
    leftover = checkpoint.path.with_name("r_20200101_000000")
    leftover.mkdir()
    (leftover / "model.safetensors").write_bytes(b"half")
    with holdfast.open(tmp_path) as store, store.run("r", save=when.never()):
        pass
    assert not leftover.exists()
