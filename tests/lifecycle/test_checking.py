"""Verification: damage anywhere is found, noted once, and forgotten when it is gone."""

import shutil

import pytest

import holdfast
from holdfast.errors import NotFoundError
from holdfast.lifecycle.history import RunHistory
from tests.lifecycle.stores import detach, flip, listing, train


@pytest.fixture
def store(tmp_path):
    with holdfast.open(tmp_path / "store") as opened:
        yield opened


def journal_lines(store, run="a") -> list[bytes]:
    """Lines of a journal, but for those that only say what was read."""
    lines = (store.path / "runs" / run / "journal.jsonl").read_bytes().splitlines()
    return [line for line in lines if b'"t":"verified"' not in line]


def test_a_sound_store_is_sound_and_only_that_it_was_read_is_written(store):
    saved = train(store, "a", [2, 1])
    before, lines = listing(store.path), journal_lines(store)
    found = store.verify()
    assert found.ok
    assert sorted(found.checked) == sorted(checkpoint.id for checkpoint in saved)
    assert found.intact == found.checked
    after = listing(store.path)
    assert after.pop("runs/a/journal.jsonl") != before.pop("runs/a/journal.jsonl")
    assert after == before
    assert journal_lines(store) == lines


def test_progress_comes_to_the_total_that_was_announced(store):
    train(store, "a", [2, 1])
    train(store, "b", [3])
    for target in (None, "a", store.latest("b").id):
        parts = []
        total = store.verify_nbytes(target)
        found = store.verify(target, progress=parts.append)
        assert sum(parts) == total == found.nbytes > 0


@pytest.mark.parametrize("name", ["model.safetensors", "rng.safetensors", "manifest.json"])
@pytest.mark.parametrize("at", [0, 40, 200, -1])
def test_a_flipped_bit_is_found_and_the_others_are_sound(store, name, at):
    first, second = train(store, "a", [2, 1])
    if name == "rng.safetensors":
        detach(first.path / name)
    flip(first.path / name, at=at)
    found = store.verify()
    assert set(found.damaged) == {first.id}
    assert name.split(".")[0] in found.damaged[first.id][0]
    assert found.intact == (second.id,)


@pytest.mark.parametrize("keep_nbytes", [0, 1, 100, 4096, 4097])
def test_a_cut_file_is_found(store, keep_nbytes):
    (saved,) = train(store, "a", [1])
    path = saved.path / "model.safetensors"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:keep_nbytes])
    assert "bytes" in store.verify().damaged[saved.id][0]


def test_swapped_files_are_found(store):
    first, second = train(store, "a", [2, 1])
    one, other = (c.path / "model.safetensors" for c in (first, second))
    spare = store.path / "spare"
    one.rename(spare)
    other.rename(one)
    spare.rename(other)
    assert set(store.verify().damaged) == {first.id, second.id}


@pytest.mark.parametrize("name", ["model.safetensors", "manifest.json"])
def test_a_missing_file_is_found(store, name):
    first, _ = train(store, "a", [2, 1])
    (first.path / name).unlink()
    found = store.verify()
    assert set(found.damaged) == {first.id}
    assert "is missing" in found.damaged[first.id][0]


def test_a_checkpoint_that_was_deleted_is_not_missed(store):
    first, second = train(store, "a", [2, 1])
    store.delete(first.id).apply()
    found = store.verify()
    assert found.ok
    assert found.checked == (second.id,)


def test_damage_is_noted_once_and_forgotten_when_it_is_gone(store):
    first, second = train(store, "a", [1, 2])
    copy = store.path.parent / "copy"
    shutil.copy(first.path / "model.safetensors", copy)
    flip(first.path / "model.safetensors")
    store.verify()
    lines = len(journal_lines(store))
    store.verify()
    assert len(journal_lines(store)) == lines
    assert RunHistory(store._place.journal("a")).refresh().damaged.keys() == {first.id}
    assert store.get(first.id).info.damaged
    assert store.best("loss", run="a") == second
    (first.path / "model.safetensors").unlink()
    shutil.copy(copy, first.path / "model.safetensors")
    assert store.verify("a").ok
    assert b'"t":"healthy"' in journal_lines(store)[-1]
    assert len(journal_lines(store)) == lines + 1
    assert not store.get(first.id).info.damaged
    store.reindex()
    assert store.best("loss", run="a") == first


def test_damage_outlives_a_lost_catalog(store):
    first, _ = train(store, "a", [1, 2])
    flip(first.path / "model.safetensors")
    store.verify()
    store.reindex()
    assert store.get(first.id).info.damaged


def test_a_place_that_is_only_read_is_verified_without_a_word(store):
    first, _ = train(store, "a", [1, 2])
    flip(first.path / "model.safetensors")
    before = listing(store.path)
    with holdfast.open(store.path, mode="r") as reader:
        assert set(reader.verify().damaged) == {first.id}
    assert listing(store.path) == before


def test_a_damaged_line_of_a_journal_is_told_apart_from_damaged_checkpoints(store):
    train(store, "a", [1, 2])
    path = store.path / "runs" / "a" / "journal.jsonl"
    flip(path, at=30)
    path.chmod(0o644)
    found = store.verify()
    assert not found.ok
    assert not found.damaged
    assert "does not match its digest" in found.journals["a"][0]


def test_a_journal_that_was_cut_is_found_though_its_lines_are_sound(store):
    train(store, "a", [1, 2])
    path = store.path / "runs" / "a" / "journal.jsonl"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    found = store.verify()
    assert not found.ok
    assert "it was cut" in found.journals["a"][0]


def test_strays_are_named_and_are_no_damage(store):
    (saved,) = train(store, "a", [1])
    (saved.path / "notes.txt").write_text("mine")
    found = store.verify()
    assert found.ok
    assert found.strays == {saved.id: ("notes.txt",)}


def test_a_run_or_a_reference_limits_what_is_read(store):
    first, _ = train(store, "a", [1, 2])
    (other,) = train(store, "b", [3])
    assert set(store.verify("b").checked) == {other.id}
    assert store.verify("a@best:loss").checked == (first.id,)
    flip(first.path / "manifest.json", at=20)
    assert set(store.verify(first.id).damaged) == {first.id}


@pytest.mark.parametrize("target", ["nobody", "a_20200101_000000", "a@step:9"])
def test_a_target_that_is_not_there_is_not_found(store, target):
    train(store, "a", [1])
    with pytest.raises(NotFoundError):
        store.verify(target)


def test_what_was_found_is_plain_json(store):
    first, _ = train(store, "a", [1, 2])
    flip(first.path / "model.safetensors")
    told = store.verify().as_dict()
    assert told["ok"] is False
    assert list(told["damaged"]) == [first.id]
