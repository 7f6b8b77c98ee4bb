"""Verification of whole stores: each shard once, in pieces that add up, without disturbing."""

import os
import threading
from pathlib import Path

import pytest

import holdfast
from holdfast.engine import scanning
from holdfast.errors import ConfigError
from holdfast.lifecycle import verifying
from holdfast.lifecycle.history import RunHistory
from holdfast.storage import local
from tests.lifecycle.stores import detach, flip, listing, train


@pytest.fixture
def store(tmp_path):
    with holdfast.open(tmp_path / "store") as opened:
        yield opened


def verified(store, run="a") -> dict[str, float]:
    return RunHistory(store._place.journal(run)).refresh().verified


def opened_shards(monkeypatch) -> list[str]:
    """Paths of the shard files that are opened from now on, in order."""
    paths = []
    real = local.LocalStorage.reading

    def reading(self, path):
        if path.endswith(".safetensors"):
            paths.append(path)
        return real(self, path)

    monkeypatch.setattr(local.LocalStorage, "reading", reading)
    return paths


# -- each shard once -----------------------------------------------------------------------------


def test_a_shard_is_read_once_however_many_checkpoints_and_runs_hold_it(store, monkeypatch):
    train(store, "a", [3, 2, 1], frozen=7)
    train(store, "b", [5], frozen=7)
    inodes = {path.stat().st_ino: path for path in store.path.glob("runs/*/*/*.safetensors")}
    paths = opened_shards(monkeypatch)
    found = store.verify()
    assert found.ok
    assert len(found.checked) == 4
    assert len(paths) == found.files == len(inodes)
    assert found.nbytes == sum(path.stat().st_size for path in inodes.values())
    assert len([path for path in paths if "frozen" in path]) == 1


def test_damage_of_a_shared_shard_is_reported_for_each_checkpoint_by_its_own_path(store):
    saved = train(store, "a", [3, 2, 1], frozen=7)
    (other,) = train(store, "b", [5], frozen=7)
    flip(saved[1].path / "frozen.safetensors")
    found = store.verify()
    assert set(found.damaged) == {checkpoint.id for checkpoint in (*saved, other)}
    for checkpoint_id, why in found.damaged.items():
        assert len(why) == 1
        assert f"/{checkpoint_id}/frozen.safetensors is damaged" in why[0]


def test_a_copy_of_its_own_is_read_and_judged_on_its_own(store):
    first, second = train(store, "a", [2, 1], frozen=7)
    detach(second.path / "frozen.safetensors")
    flip(second.path / "frozen.safetensors")
    assert set(store.verify().damaged) == {second.id}
    first.verify()


def test_a_checkpoint_that_was_not_asked_for_and_shares_the_damage_is_noted_too(store):
    first, second = train(store, "a", [2, 1], frozen=7)
    (other,) = train(store, "b", [5], frozen=7)
    (apart,) = train(store, "c", [6], frozen=8)
    store.verify()
    flip(first.path / "frozen.safetensors")
    found = store.verify(first.id)
    assert found.checked == (first.id,)
    assert set(found.damaged) == {first.id, second.id, other.id}
    assert store.get(other.id).info.damaged
    assert other.id not in verified(store, "b")
    assert not store.get(apart.id).info.damaged


def test_what_took_a_damaged_files_place_is_read_anew(store, tmp_path):
    (saved,) = train(store, "a", [1])
    path = saved.path / "model.safetensors"
    sound = path.read_bytes()
    flip(path)
    assert not store.verify().ok
    path.unlink()
    path.write_bytes(sound)
    assert store.verify().ok


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_no_more_files_are_open_than_allowed(store, monkeypatch):
    monkeypatch.setattr(scanning, "MAX_OPEN", 3)
    train(store, "a", [float(n) for n in range(5)], frozen=7)
    counts = []
    real = local.LocalStorage.reading

    def reading(self, path):
        counts.append(open_files())
        return real(self, path)

    before = open_files()
    monkeypatch.setattr(local.LocalStorage, "reading", reading)
    assert store.verify().ok
    assert max(counts) - before <= 3


def test_many_small_checkpoints_are_read_at_once(store, monkeypatch):
    train(store, "a", [float(n) for n in range(4)])
    train(store, "b", [9.0])
    together = []
    real = scanning._scan

    def scan(storage, files, progress, pace):
        together.append(len(files))
        return real(storage, files, progress, pace)

    monkeypatch.setattr(scanning, "_scan", scan)
    found = store.verify()
    assert together == [found.files]


# -- going on where it was left -------------------------------------------------------------------


def test_what_was_verified_is_noted_and_left_out_since(store):
    first, second = train(store, "a", [2, 1])
    assert set(store.verify().checked) == {first.id, second.id}
    (third,) = train(store, "b", [3])
    found = store.verify(since="1h")
    assert found.ok
    assert found.checked == (third.id,)
    assert set(found.skipped) == {first.id, second.id}
    assert set(store.verify().checked) == {first.id, second.id, third.id}
    assert store.verify_nbytes(since="1h") == 0
    assert found.as_dict()["skipped"] == list(found.skipped)


def test_what_was_verified_longer_ago_is_read_again(store):
    (saved,) = train(store, "a", [1])
    line = {"t": "verified", "at": 1000.0, "ids": [saved.id]}
    store._place.append("a", [line], durable=False)
    assert store.verify(since="1970-01-01T00:15:00").skipped == (saved.id,)
    assert store.verify(since="1970-01-01T00:17:00").checked == (saved.id,)


def spoil_tensor(saved):
    flip(saved.path / "model.safetensors")


def lose_manifest(saved):
    (saved.path / "manifest.json").unlink()


@pytest.mark.parametrize("spoil", [spoil_tensor, lose_manifest])
def test_damage_is_reported_again_whatever_was_verified_since(store, spoil):
    first, second = train(store, "a", [2, 1])
    if spoil is lose_manifest:
        store.verify()
    spoil(first)
    for _ in range(2):
        found = store.verify(since="1d")
        assert set(found.damaged) == {first.id}
    assert found.skipped == (second.id,)


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("stop", [KeyboardInterrupt, StoppedError])
def test_an_interrupted_verification_goes_on_where_it_was(store, monkeypatch, stop):
    monkeypatch.setattr(verifying, "MAX_OPEN", 1)
    saved = train(store, "a", [4, 3, 2, 1])
    calls = iter(range(100))
    real = scanning._scan

    def scan(*arguments):
        if next(calls) == 2:
            raise stop
        return real(*arguments)

    monkeypatch.setattr(scanning, "_scan", scan)
    with pytest.raises(stop):
        store.verify()
    monkeypatch.undo()
    done = set(verified(store))
    assert 0 < len(done) < len(saved)
    found = store.verify(since="1h")
    assert set(found.skipped) == done
    assert set(found.checked) == {checkpoint.id for checkpoint in saved} - done


def test_what_was_verified_is_noted_while_it_goes_on(store, monkeypatch):
    monkeypatch.setattr(verifying, "MAX_OPEN", 1)
    monkeypatch.setattr(verifying, "_NOTED_AT_ONCE", 2)
    train(store, "a", [5, 4, 3, 2, 1])
    noted = []
    store.verify(progress=lambda _: noted.append(len(verified(store))))
    assert {0, 2, 4} <= set(noted)


def test_a_place_that_is_only_read_goes_by_what_was_noted_and_notes_nothing(store):
    first, second = train(store, "a", [2, 1])
    store.verify(first.id)
    before = listing(store.path)
    with holdfast.open(store.path, mode="r") as reader:
        found = reader.verify(since="1h")
        assert (found.skipped, found.checked) == ((first.id,), (second.id,))
        assert reader.verify_nbytes() == reader.verify().nbytes
    assert listing(store.path) == before


def test_a_lost_journal_does_not_begin_anew_with_what_was_verified(store):
    train(store, "a", [1])
    path = store.path / "runs" / "a" / "journal.jsonl"
    path.unlink()
    found = store.verify()
    assert "it was cut" in found.journals["a"][0]
    assert not path.exists()


def test_the_line_is_no_news_to_a_reader_that_does_not_know_it(store):
    (saved,) = train(store, "a", [1])
    before = RunHistory(store._place.journal("a")).refresh()
    line = {"t": "verified-by-the-moon", "at": 1.0, "ids": [saved.id], "of": {"kind": 7}}
    store._place.append("a", [line], durable=False)
    after = RunHistory(store._place.journal("a")).refresh()
    assert (after.saves, after.damage, after.damaged) == (before.saves, [], {})


def test_a_damaged_line_takes_the_word_back(store):
    (saved,) = train(store, "a", [1])
    lines = [
        {"t": "verified", "at": 1.0, "ids": [saved.id]},
        {"t": "damaged", "at": 2.0, "id": saved.id, "reason": "rotten"},
    ]
    store._place.append("a", lines, durable=False)
    assert verified(store) == {}
    store._place.append("a", lines[:1], durable=False)
    assert verified(store) == {}
    store._place.append("a", [{"t": "healthy", "at": 3.0, "id": saved.id}], durable=False)
    assert verified(store) == {saved.id: 3.0}


# -- what cannot be read now, and what changes meanwhile ------------------------------------


def test_a_file_that_is_kept_shut_is_no_damage(store, monkeypatch):
    first, second = train(store, "a", [2, 1])
    real = os.open

    def denied(path, *arguments, **named):
        if str(path).endswith(f"{first.id}/model.safetensors"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", denied)
        found = store.verify()
    assert not found.ok
    assert not found.damaged
    assert "Permission denied" in found.unread[first.id][0]
    assert not store.get(first.id).info.damaged
    assert set(verified(store)) == {second.id}
    assert store.verify().ok


def test_a_checkpoint_that_is_deleted_or_thinned_meanwhile_is_no_damage(store):
    _, second, third = train(store, "a", [3, 2, 1])
    changed = []

    def progress(_):
        if not changed:
            changed.append(True)
            store.delete(second.id).apply()
            store.prune("a", policy="best(1, 'loss').items('model') | latest(1)").apply()

    found = store.verify(progress=progress)
    assert changed
    assert found.ok, found.damaged
    assert third.id in found.checked


# -- the rate ------------------------------------------------------------------------------------


def test_a_bounded_rate_reads_the_same_and_says_so(store):
    saved = train(store, "a", [2, 1], frozen=7)
    flip(saved[0].path / "model.safetensors")
    parts = []
    total = store.verify_nbytes()
    slow = store.verify(rate="10GB/s", progress=parts.append)
    assert sum(parts) == total
    assert dict(store.verify().damaged) == dict(slow.damaged)
    assert (slow.files, slow.nbytes) == (store.verify().files, total)


def test_a_bounded_rate_reads_in_the_calling_thread_and_waits_between_pieces(store, monkeypatch):
    (saved,) = train(store, "a", [1])
    taken = []

    def take(nbytes):
        taken.append((threading.current_thread(), nbytes))

    found = verifying.verify(store._place, saved.id, pace=take)
    assert {thread for thread, _ in taken} == {threading.current_thread()}
    assert found.nbytes <= sum(nbytes for _, nbytes in taken) <= found.nbytes + 8 * found.files
    assert max(nbytes for _, nbytes in taken) <= 512 << 10


@pytest.mark.parametrize("arguments", [{"since": "soon"}, {"since": "9y"}, {"rate": "fast"}])
def test_what_cannot_be_meant_is_refused_before_anything_is_read(store, monkeypatch, arguments):
    train(store, "a", [1])
    paths = opened_shards(monkeypatch)
    with pytest.raises(ConfigError):
        store.verify(**arguments)
    assert paths == []
