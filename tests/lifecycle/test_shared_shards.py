"""Shards that two runs share, while one run saves and the other is cleaned up.

A checkpoint rests on the names in its own folder alone, and only its own deletion takes these
away. So whatever a clean-up does with a name under ``shards/``, at worst a later save does not
find it there and writes one more copy.
"""

import numpy as np
import pytest

import holdfast
from holdfast import keep
from holdfast.storage import Posix
from tests.runs.samples import manual, on_medium, saved
from tests.storage.faulty import WatchedPosix

SHARED = {"rest": np.arange(5000.0)}


class Inserting:
    """Does something in the middle: before the n-th call of the medium."""

    def __init__(self, number, act):
        self.count = 0
        self._number = number
        self._act = act
        self.posix = WatchedPosix(self._before)

    def _before(self, _name, _arguments):
        self.count += 1
        if self.count == self._number:
            self._act()


def open_runs(root):
    """Returns two stores on one place, and a run in each with the same content."""
    stores = holdfast.open(root), holdfast.open(root)
    runs = [manual(store, name) for store, name in zip(stores, ("going", "coming"), strict=True)]
    for run in runs:
        run.attach(model={**SHARED, "own": np.zeros(4)})
    return stores, runs


def check_outcome(stores, runs, gone):
    for run in runs:
        run.close()
    assert stores[0].verify().damaged == {}
    assert gone.id not in {c.id for c in stores[0].checkpoints()}
    newest = stores[0].latest("coming")
    np.testing.assert_array_equal(newest.load("model")["rest"], SHARED["rest"])
    findings = stores[0].repair()
    assert findings.ok, findings
    for store in stores:
        store.close()


def clean_up_around(root, number):
    """Deletes a checkpoint whose shards a save links at one of its calls; returns their count."""
    stores, runs = open_runs(root)
    gone = saved(runs[0], 0)
    medium = Inserting(number, lambda: saved(runs[1], 0))
    on_medium(stores[0], medium.posix)
    stores[0].delete(gone.id).apply()
    on_medium(stores[0], Posix())
    if number > medium.count or not number:
        saved(runs[1], 0)
    check_outcome(stores, runs, gone)
    return medium.count


def save_around(root, number):
    """Saves what shares shards with a checkpoint that is deleted at one of the save's calls."""
    stores, runs = open_runs(root)
    gone = saved(runs[0], 0)
    medium = Inserting(number, lambda: stores[0].delete(gone.id).apply())
    on_medium(stores[1], medium.posix)
    saved(runs[1], 0)
    on_medium(stores[1], Posix())
    if number > medium.count or not number:
        stores[0].delete(gone.id).apply()
    check_outcome(stores, runs, gone)
    return medium.count


def check_meetings(tmp_path, around, stride):
    calls = around(tmp_path / "0", 0)
    assert calls >= 8
    for number in range(1, calls + 1, stride):
        around(tmp_path / str(number), number)


@pytest.mark.parametrize("around", [clean_up_around, save_around])
def test_a_save_and_a_cleanup_of_shared_shards_may_meet(tmp_path, around):
    check_meetings(tmp_path, around, 7)


@pytest.mark.sweeps
@pytest.mark.parametrize("around", [clean_up_around, save_around])
def test_a_save_and_a_cleanup_of_shared_shards_may_meet_at_any_call(tmp_path, around):
    check_meetings(tmp_path, around, 1)


def test_a_shard_that_lost_its_second_name_is_offered_again(tmp_path):
    """The worst of those meetings costs one more copy, once."""
    with holdfast.open(tmp_path) as store, manual(store, keep=keep.all()) as run:
        run.attach(model=SHARED)
        first = saved(run, 0)
        for second_name in (tmp_path / "shards").rglob("*.safetensors"):
            second_name.unlink()
        with manual(store, "other") as other:
            other.attach(model=SHARED)
            copy = saved(other, 0)
            linked = saved(other, 1)
        assert copy.stored_nbytes >= SHARED["rest"].nbytes
        assert linked.stored_nbytes < SHARED["rest"].nbytes
        first.verify()
        copy.verify()
