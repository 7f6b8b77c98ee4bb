"""The doctor tells what only people, or a next opening, would find out: owners, locks, journals."""

import os
import sqlite3
import subprocess
import sys

import pytest
import torch

import holdfast
from holdfast import keep, when
from holdfast.catalog import opening
from holdfast.lifecycle import healing
from tests.lifecycle.stores import flip, ids, listing, train

DYING = """
import os, sys
import holdfast, torch
run = holdfast.open(sys.argv[1]).run("a", save=holdfast.when.never(), keep=holdfast.keep.all())
run.attach(model={"weight": torch.zeros(3)})
run.save(7).wait()
print(os.getpid(), flush=True)
os._exit(1)
"""


@pytest.fixture
def store(tmp_path):
    with holdfast.open(tmp_path / "store") as opened:
        yield opened


def found(store, kind, *, apply=False):
    return [f for f in store.repair(apply=apply).findings if f.kind == kind]


def test_a_run_whose_owner_died_is_named_with_its_owner_and_noted_as_interrupted(tmp_path):
    path = tmp_path / "store"
    done = subprocess.run(
        [sys.executable, "-c", DYING, str(path)], capture_output=True, text=True, check=False
    )
    pid = done.stdout.strip()
    with holdfast.open(path) as store:
        (finding,) = found(store, "owner")
        assert finding.path == "runs/a"
        assert f"pid {pid} on {os.uname().nodename}, since 20" in finding.what
        assert b"interrupted" not in (path / "runs" / "a" / "journal.jsonl").read_bytes()
        (applied,) = found(store, "owner", apply=True)
        assert applied.done
        assert f"pid {pid} " in applied.what
        assert store.repair().findings == ()
        assert store["a"].status == "interrupted"
        assert b'"status":"interrupted"' in (path / "runs" / "a" / "journal.jsonl").read_bytes()


def test_a_run_that_is_written_has_an_owner(store):
    train(store, "a", [1], finish=False)
    assert found(store, "owner") == []
    assert found(store, "owner", apply=True) == []


def shut_folder(path):
    path.unlink()
    path.mkdir()


def shut_link(path):
    path.unlink()
    path.symlink_to(path.parent.parent.parent.parent / "elsewhere")


@pytest.mark.parametrize("shut", [shut_folder, shut_link])
@pytest.mark.parametrize("apply", [False, True])
def test_a_lock_that_cannot_be_opened_is_named_and_its_run_is_left_alone(store, shut, apply):
    (saved,) = train(store, "a", [1])
    train(store, "b", [1])
    (saved.path / ".tmp-model.safetensors-1-2-3").write_bytes(b"half")
    shut(store.path / "runs" / "a" / "lock")
    result = store.repair(apply=apply)
    assert [(f.kind, f.path, f.done) for f in result.findings] == [("lock", "runs/a/lock", False)]
    assert result.busy == ()
    assert (saved.path / ".tmp-model.safetensors-1-2-3").exists()
    assert not (store.path.parent / "elsewhere").exists()


def lose(path):
    path.unlink()


def cut(path):
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])


def damage_line(path):
    flip(path, at=30)
    path.chmod(0o644)


def make_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lose, "missing"),
        (cut, "it was cut"),
        (damage_line, "does not match its digest"),
        (make_folder, "not a regular file"),
    ],
)
def test_a_journal_that_lost_something_is_named_and_left(tmp_path, spoil, said):
    with holdfast.open(tmp_path / "store") as store:
        train(store, "a", [2, 1])
        (other,) = train(store, "b", [1])
    spoil(tmp_path / "store" / "runs" / "a" / "journal.jsonl")
    with holdfast.open(tmp_path / "store") as store:
        store.repair(apply=True)
        left = store.repair(apply=True).left
        assert len(left) == 1, left
        assert left[0].kind == "damaged"
        assert said in left[0].what
        assert store.get(other.id) == other
        assert not store.verify().ok


def test_an_empty_folder_of_shards_goes_and_is_no_reason_to_worry(store):
    (saved,) = train(store, "a", [1])
    (store.path / "shards" / "zz").mkdir()
    (store.path / "shards" / "yy").mkdir()
    (store.path / "shards" / "yy" / "mine").mkdir()
    result = store.repair()
    assert [(f.kind, f.done) for f in result.findings] == [("empty", False)]
    assert result.ok
    assert store.repair(apply=True).ok
    assert not (store.path / "shards" / "zz").exists()
    assert (store.path / "shards" / "yy" / "mine").exists()
    saved.verify()


def test_a_store_that_lost_its_file_can_be_looked_at(tmp_path):
    with holdfast.open(tmp_path / "store") as store:
        (saved,) = train(store, "a", [1])
    path = tmp_path / "store" / "holdfast.json"
    flip(path, at=12)
    before = listing(tmp_path / "store")
    with holdfast.open(tmp_path / "store", mode="r") as store:
        assert [(f.kind, f.path) for f in store.repair().findings] == [("damaged", "holdfast.json")]
        assert store.get(saved.id).load("model")["weight"].shape == (3, 2)
    assert listing(tmp_path / "store") == before
    with pytest.raises(holdfast.IntegrityError, match=r"holdfast\.json"):
        holdfast.open(tmp_path / "store")


def test_a_catalog_that_was_moved_aside_is_removed_on_request(tmp_path):
    with holdfast.open(tmp_path / "store") as store:
        train(store, "a", [1])
    for path in (tmp_path / "store").glob("catalog.sqlite3*"):
        path.unlink()
    (tmp_path / "store" / "catalog.sqlite3").write_bytes(b"garbage" * 100)
    with holdfast.open(tmp_path / "store") as store:
        (finding,) = found(store, "leftover")
        assert finding.path == "catalog.sqlite3.damaged-1"
        assert store.repair(apply=True).ok
        assert store.repair().findings == ()


def rows_page(path) -> int:
    """The page of a database on which the rows of checkpoints begin."""
    with sqlite3.connect(path) as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE type = 'table' AND name LIKE '%checkpoints'"
        ).fetchone()
    connection.close()
    return page


def test_a_catalog_that_is_damaged_deep_inside_is_moved_aside_when_asked(tmp_path, monkeypatch):
    with holdfast.open(tmp_path / "store") as store:
        saved = train(store, "a", [2, 1])
    path = tmp_path / "store" / "catalog.sqlite3"
    page = rows_page(path)
    data = bytearray(path.read_bytes())
    for at in range((page - 1) * 4096, page * 4096):
        data[at] ^= 0x55
    path.write_bytes(data)
    # A large one is not read in full at each opening.
    monkeypatch.setattr(opening, "_QUICK_CHECK_NBYTES", 0)
    with holdfast.open(tmp_path / "store") as store:
        (finding,) = store.repair().left
        assert (finding.kind, finding.path) == ("damaged", "catalog.sqlite3")
        assert path.exists()
        assert store.repair(apply=True).ok
    with holdfast.open(tmp_path / "store") as store:
        left_behind = store.repair(apply=True).findings
        assert left_behind
        assert all(f.path.startswith("catalog.sqlite3.damaged-1") for f in left_behind)
        assert store.repair().findings == ()
        assert ids(store.checkpoints("a", order_by="created_at")) == ids(saved)


def test_tensors_are_read_only_where_damage_was_noted(store, monkeypatch):
    first, _ = train(store, "a", [2, 1], frozen=7)
    read = []
    real = healing.reader.read_tensors
    monkeypatch.setattr(healing.reader, "read_tensors", lambda *a: (read.append(a), real(*a))[1])
    assert store.repair().ok
    assert read == []
    line = {"t": "damaged", "at": 0.0, "id": first.id, "reason": "said so"}
    store._place.append("a", [line], durable=True)
    store.repair()
    assert read


def test_progress_counts_the_checkpoints(store):
    train(store, "a", [2, 1])
    train(store, "b", [3])
    parts = []
    store.repair(progress=parts.append)
    assert sum(parts) == 3


def test_a_save_beside_a_doctor_that_removes_folders_keeps_its_checkpoint(store):
    run = store.run("a", save=when.never(), keep=keep.all())
    state = {"weight": torch.zeros(4)}
    run.attach(model=state)
    for step in range(8):
        state["weight"] += 1
        pending = run.save(step)
        store.repair(apply=True)
        pending.wait().verify()
    run.close()
    assert store.verify().ok
