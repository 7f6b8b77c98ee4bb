"""Clean-ups and deletions that were cut off: nothing of them is forgotten, or said by one alone."""

import errno

import pytest

import holdfast
from holdfast import keep
from holdfast.errors import StorageFullError
from holdfast.lifecycle.prune import finish_interrupted
from holdfast.storage.faults import FAILING, Crashed, Fault, FaultyPosix
from holdfast.testing.facts import all_that_is_said
from holdfast.testing.scenario import opened
from tests.lifecycle.stores import train


def ended_at(root, call, number, work):
    """Does something that ends at the n-th call of a kind, and closes what a dead process would."""
    posix = FaultyPosix(Fault(number, calls=(call,)))
    with opened(root, posix) as store, pytest.raises(Crashed):
        work(store)
    assert posix.fired == call


def same_after_reindexing(root):
    with holdfast.open(root) as store:
        before = all_that_is_said(store)
        store.reindex()
        assert all_that_is_said(store) == before
        return before


def test_the_reason_of_a_clean_up_that_was_cut_off_is_the_one_that_was_planned(tmp_path):
    root = tmp_path / "store"
    with holdfast.open(root) as store:
        saved = train(store, "a", [3, 1, 2])
    policy = keep.best(1, "loss").items("model")
    ended_at(root, "unlink", 2, lambda store: store.prune("a", policy=policy).apply())
    with holdfast.open(root) as store:
        store.prune("a", policy=policy).apply()
        why = [d.reason for d in store["a"].decisions() if d.checkpoint_id == saved[0].id]
        assert len([sentence for sentence in why if "not among the best 1" in sentence]) == 1
    same_after_reindexing(root)


def test_what_was_pinned_meanwhile_is_told_by_the_files_too(tmp_path):
    root = tmp_path / "store"
    with holdfast.open(root) as store:
        saved = train(store, "a", [3, 1, 2])
    policy = keep.best(1, "loss")
    ended_at(root, "unlink", 1, lambda store: store.prune("a", policy=policy).apply())
    with holdfast.open(root) as store:
        store.get(saved[0].id).pin()
        finish_interrupted(store._place, "a", _history(store))
        said = [d.fate for d in store["a"].decisions() if d.checkpoint_id == saved[0].id]
        assert (said.count("deleted"), said[-1]) == (1, "kept")
        assert store.get(saved[0].id).pinned
    same_after_reindexing(root)


def _history(store):
    from holdfast.lifecycle.history import RunHistory

    return RunHistory(store._place.journal("a")).refresh()


@pytest.mark.parametrize("finish", ["delete", "repair"])
@pytest.mark.parametrize("left", ["lock", "nothing"])
def test_the_empty_folder_of_a_deleted_run_does_not_stay_for_ever(tmp_path, finish, left):
    root = tmp_path / "store"
    with holdfast.open(root) as store:
        train(store, "a", [3, 1])
        train(store, "b", [2])
        store.delete("a").apply()
    (root / "runs" / "a").mkdir()
    if left == "lock":
        (root / "runs" / "a" / "lock").touch()
    with holdfast.open(root) as store:
        if finish == "delete":
            store.delete("a").apply()
        else:
            assert [f.kind for f in store.repair().left] == ["leftover"]
            assert store.repair(apply=True).ok
        assert [path.name for path in (root / "runs").iterdir()] == ["b"]
        assert store.repair().ok


def test_a_full_disk_that_fails_a_deletion_ahead_of_its_note_leaves_no_ghost(tmp_path):
    root = tmp_path / "store"
    with holdfast.open(root) as store:
        train(store, "a", [3, 1, 2])
    posix = FaultyPosix()
    with opened(root, posix) as store:
        plan = store.prune("a", policy=keep.best(1, "loss"))
        # Opening the journal, which is there, takes no room.
        calls = [call for call in FAILING[errno.ENOSPC] if call != "open_append"]
        posix.fault = Fault(1, "fail", errno.ENOSPC, True, calls)
        posix.count = 0
        with pytest.raises(StorageFullError):
            plan.apply()
    with holdfast.open(root) as store:
        there = {path.parent.name for path in root.glob("runs/a/*/manifest.json")}
        assert {c.id for c in store.checkpoints()} == there
        assert len(there) == 2
        assert not any(c.info.damaged for c in store.checkpoints())
