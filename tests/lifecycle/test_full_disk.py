"""A clean-up works on a disk that is full to the last byte."""

import numpy as np
import pytest

import holdfast
from holdfast import keep, when
from tests import disks


@pytest.fixture
def small_disk(tmp_path):
    with disks.small_disk(tmp_path, "tmpfs", nbytes=8 << 20) as folder:
        yield folder


def report_for_ever(checkpoint):
    for number in range(1000):
        checkpoint.report(**{f"score{number}": 1.0})


def test_pruning_a_full_disk_makes_room_for_the_next_save(small_disk):
    state = {"w": np.zeros(50_000)}
    with holdfast.open(small_disk / "store") as store:
        with store.run("r", save=when.never()) as run:
            run.attach(model=state)
            for step in range(6):
                state["w"] += 1
                run.save(step, {"loss": 1.0 / (step + 1)}).wait()
            disks.fill(small_disk)
            state["w"] += 1
            with pytest.raises(holdfast.StorageFullError):
                run.save(6).wait()
            kept = store.checkpoints("r")
            assert [checkpoint.step for checkpoint in kept] == [5, 4, 3, 2, 1, 0]
            store.prune("r", policy=keep.latest(2)).apply()
            assert [checkpoint.step for checkpoint in store.checkpoints("r")] == [5, 4]
            run.save(7).wait()
        for checkpoint in store.checkpoints("r"):
            checkpoint.verify()


def test_a_store_on_a_full_disk_opens_is_read_and_pruned(small_disk):
    state = {"w": np.zeros(50_000)}
    with holdfast.open(small_disk / "store") as store, store.run("r", save=when.never()) as run:
        run.attach(model=state)
        for step in range(4):
            state["w"] += 1
            run.save(step).wait()
    disks.fill(small_disk)
    with holdfast.open(small_disk / "store") as store:
        assert store.latest("r").load("model")["w"][0] == 4
        store.prune("r", policy=keep.latest(1)).apply()
        assert [checkpoint.step for checkpoint in store.checkpoints("r")] == [3]


def test_a_clean_up_whose_note_has_no_room_deletes_until_it_has(small_disk, caplog):
    state = {"w": np.zeros(50_000)}
    with holdfast.open(small_disk / "store") as store, store.run("r", save=when.never()) as run:
        run.attach(model=state)
        for step in range(4):
            state["w"] += 1
            run.save(step).wait()
        run.wait()
        disks.fill(small_disk)
        # The journal's last page still has room: until that is full, too.
        with pytest.raises(holdfast.StorageFullError):
            report_for_ever(run.latest())
        store.prune("r", policy=keep.latest(2)).apply()
        assert "no room to note" in caplog.text
        assert [checkpoint.step for checkpoint in store.checkpoints("r")] == [3, 2]
        for checkpoint in store.checkpoints("r"):
            checkpoint.verify()
        deleted = [d.step for d in store["r"].decisions() if d.fate == "deleted"]
        assert sorted(deleted) == [0, 1]
    with holdfast.open(small_disk / "store") as store:
        assert not any(checkpoint.info.damaged for checkpoint in store.checkpoints("r"))
