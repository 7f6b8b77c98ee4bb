"""Damage that is known spreads no further: a training that goes on links none of it."""

import numpy as np
import pytest

import holdfast
from holdfast import when

RESTING = np.arange(20_000, dtype="<f4")


class Trainer:
    """A training whose larger tensor rests, so that its checkpoints share a shard."""

    def __init__(self, store):
        self.run = store.run("a", save=when.never())
        self.state = {"resting": RESTING.copy(), "head": np.zeros(64)}
        self.run.attach(model=self.state)
        self.start = self.run.resume()

    def save(self, step):
        self.state["head"][:] = step
        return self.run.save(step).wait()


def shared_file(checkpoint):
    """The file of a checkpoint that others hold, too."""
    (path,) = [p for p in checkpoint.path.glob("model*.safetensors") if p.stat().st_nlink > 2]
    return path


def rot(path):
    """Flips a bit of a tensor: header and length stay what they were."""
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[-9] ^= 4
    with path.open("r+b") as file:
        file.write(data)
    path.chmod(0o444)


def require_free_of(damaged, checkpoint):
    inodes = {path.stat().st_ino for path in checkpoint.path.iterdir()}
    assert damaged.stat().st_ino not in inodes
    np.testing.assert_array_equal(checkpoint.load("model")["resting"], RESTING)


@pytest.mark.parametrize("finder", ["another process", "the training itself"])
def test_a_training_that_goes_on_links_no_shard_that_was_found_damaged(tmp_path, finder):
    with holdfast.open(tmp_path / "store") as store:
        training = Trainer(store)
        saved = [training.save(step) for step in range(3)]
        damaged = shared_file(saved[2])
        rot(damaged)
        if finder == "another process":
            with holdfast.open(tmp_path / "store") as other:
                found = other.verify()
        else:
            found = store.verify()
        assert saved[2].id in found.damaged
        later = [training.save(step) for step in range(3, 6)]
        for checkpoint in later:
            require_free_of(damaged, checkpoint)
        # They share among themselves again: the last two, once what rests is told apart anew.
        assert shared_file(later[-1]).stat().st_nlink == 3
        assert set(store.verify().damaged) == set(found.damaged)


def test_a_training_that_resumes_past_damage_links_none_of_it(tmp_path):
    with holdfast.open(tmp_path / "store") as store:
        training = Trainer(store)
        first = training.save(0)
        training.state["resting"] += 1
        second = training.save(1)
        damaged = next(
            path for path in second.path.glob("model*.safetensors") if path.stat().st_size > 80_000
        )
        rot(damaged)
    with holdfast.open(tmp_path / "store") as store:
        training = Trainer(store)
        assert training.start == first.step + 1
        training.state["resting"] += 1
        again = training.save(1)
        assert damaged.stat().st_ino not in {p.stat().st_ino for p in again.path.iterdir()}
        np.testing.assert_array_equal(again.load("model")["resting"], RESTING + 1)
        assert list(store.verify().damaged) == [second.id]
