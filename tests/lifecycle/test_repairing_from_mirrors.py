"""What is lost or damaged comes back from a mirror; without one nothing is deleted."""

import shutil

import pytest

import holdfast
from holdfast.engine import names
from holdfast.errors import NotFoundError
from tests.lifecycle.mirroring import files_of, journal_of
from tests.lifecycle.stores import detach, flip, train


@pytest.fixture
def root(tmp_path):
    return tmp_path / "mirror"


@pytest.fixture
def store(tmp_path, root):
    with holdfast.open(tmp_path / "store", mirrors=[root]) as opened:
        train(opened, "a", [3, 2, 1], frozen=7)
        assert opened.mirror()[0].ok
        yield opened


def files_without_quarantine(path):
    found = files_of(path)
    return {name: file for name, file in found.items() if not name.startswith("quarantine")}


def bytes_of(path):
    return {
        name: data
        for name, (data, _) in files_without_quarantine(path).items()
        # Noting damage and its end adds lines.
        if not name.endswith(names.JOURNAL)
    }


def newest(store):
    return store.checkpoints("a", order_by="-step")[0].path


WOUNDS = {
    "a flipped shard": lambda store: flip(newest(store) / "model.safetensors"),
    "a flipped header": lambda store: flip(newest(store) / "model.safetensors", at=20),
    "a shared shard": lambda store: flip(newest(store) / "frozen.safetensors"),
    "a missing shard": lambda store: (newest(store) / "model.safetensors").unlink(),
    "a flipped manifest": lambda store: flip(newest(store) / "manifest.json", at=30),
    "a missing manifest": lambda store: (newest(store) / "manifest.json").unlink(),
    "a missing checkpoint": lambda store: shutil.rmtree(newest(store)),
    "all shards": lambda store: shutil.rmtree(store.path / "shards"),
    "a missing run": lambda store: shutil.rmtree(store.path / "runs" / "a"),
}


@pytest.mark.parametrize("wound", WOUNDS)
def test_what_is_wounded_comes_back_to_the_byte(store, wound):
    before = bytes_of(store.path)
    WOUNDS[wound](store)
    store.verify()
    found = store.repair()
    assert not found.ok or wound == "all shards"
    done = store.repair(apply=True)
    assert done.ok, done.left
    assert store.verify().ok
    after = bytes_of(store.path)
    assert {n: after.get(n) for n in before if not n.startswith("shards")} == {
        n: data for n, data in before.items() if not n.startswith("shards")
    }
    assert store.repair().ok
    assert len(store.checkpoints("a")) == 3


JOURNAL_WOUNDS = {
    "flipped": lambda path: flip(path, at=50),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:400]),
    "emptied": lambda path: path.write_bytes(b""),
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("wound", JOURNAL_WOUNDS)
def test_a_journal_gets_its_lines_back_and_keeps_those_that_came_since(store, wound):
    path = journal_of(store.path)
    before = path.read_bytes()
    JOURNAL_WOUNDS[wound](path)
    store.checkpoints("a")[0].tag("since")
    done = store.repair(apply=True)
    assert done.ok, done.left
    now = path.read_bytes()
    assert now.startswith(before)
    assert b'"since"' in now[len(before) :]
    assert store.verify().ok
    assert store.mirror()[0].ok
    assert (
        journal_of(store.path).read_bytes()
        == journal_of(store._place.mirrors[0].storage.root).read_bytes()
    )


def test_a_damaged_journal_that_was_replaced_is_in_the_quarantine(store):
    flip(journal_of(store.path), at=50)
    damaged = journal_of(store.path).read_bytes()
    store.repair(apply=True)
    (kept,) = (store.path / "quarantine").iterdir()
    assert kept.name == "runs+a+journal.jsonl"
    assert kept.read_bytes() == damaged


def test_what_was_deleted_does_not_come_back(store, root):
    """Also where the mirror did not hear of it."""
    away = root.with_name("away")
    root.rename(away)
    doomed = store.checkpoints("a", order_by="step")[0]
    store.delete(doomed.id).apply()
    away.rename(root)
    assert store.repair(apply=True).ok
    assert [c.step for c in store.checkpoints("a", order_by="step")] == [1, 2]


def test_a_copy_that_is_damaged_on_the_mirror_too_heals_nothing(store, root):
    flip(newest(store) / "model.safetensors")
    damaged = (newest(store) / "model.safetensors").read_bytes()
    flip(root / newest(store).relative_to(store.path) / "model.safetensors", at=-2)
    store.verify()
    done = store.repair(apply=True)
    assert [f.path.rpartition("/")[2] for f in done.left] == ["model.safetensors"]
    assert (newest(store) / "model.safetensors").read_bytes() == damaged


def test_of_two_mirrors_the_sound_one_heals(store, root, tmp_path):
    second = tmp_path / "second"
    assert store.mirror(to=second)[0].ok
    flip(root / newest(store).relative_to(store.path) / "model.safetensors")
    flip(newest(store) / "model.safetensors")
    store.verify()
    done = store.repair(apply=True)
    assert done.ok
    assert any(str(second) in f.action for f in done.findings)
    assert store.verify().ok


def test_looking_changes_nothing(store):
    flip(newest(store) / "manifest.json", at=30)
    shutil.rmtree(store.checkpoints("a", order_by="step")[0].path)
    before = files_of(store.path)
    assert len(store.repair().left) >= 2
    assert files_of(store.path) == before


def test_without_a_mirror_a_damaged_shard_is_moved_and_not_removed(tmp_path):
    with holdfast.open(tmp_path / "alone") as store:
        (saved,) = train(store, "a", [1])
        (shard,) = saved.info.item_shards["model"]
        detach(saved.path / "model.safetensors")
        flip(saved.path / "model.safetensors")
        second = store.path / names.shard_path(shard)
        flip(second, at=-2)
        damaged = second.read_bytes()
        store.verify()
        store.repair(apply=True)
        assert not second.exists()
        (kept,) = (store.path / "quarantine").iterdir()
        assert kept.read_bytes() == damaged
        # And another of the same name finds a place beside it.
        second.write_bytes(damaged[:-1])
        store.repair(apply=True)
        assert len(list((store.path / "quarantine").iterdir())) == 2


@pytest.mark.parametrize("spoil", [flip, lambda path: path.unlink()])
def test_a_store_that_lost_its_name_gets_it_from_its_mirror(store, root, spoil):
    name = store.id
    spoil(store.path / "holdfast.json")
    with holdfast.open(store.path, mirrors=[root]) as again:
        assert again.id == name
        assert again.mirror()[0].ok


@pytest.mark.parametrize("left", ["nothing", "an empty folder"])
def test_an_empty_place_beside_a_full_mirror_is_refused_with_what_to_do(store, root, left):
    store.close()
    shutil.rmtree(store.path)
    if left != "nothing":
        store.path.mkdir()
    with pytest.raises(NotFoundError, match="holds 1 runs") as refused:
        holdfast.open(store.path, mirrors=[root])
    assert f"doctor --apply --mirror {root}" in refused.value.hint
