"""What is known as damaged is never handed on: later saves write their tensors anew."""

import numpy as np
import pytest

import holdfast
from holdfast import keep, when
from holdfast.engine import names
from tests.lifecycle.stores import detach, flip, train


@pytest.fixture
def store(tmp_path):
    with holdfast.open(tmp_path / "store") as opened:
        yield opened


def state():
    """Weights, and a table that never changes."""
    return {"table": np.arange(5000.0), "w": np.zeros(8)}


def open_run(store, name, attached):
    run = store.run(name, metric="loss", save=when.never(), keep=keep.all())
    run.attach(model={"w": attached["w"]}, table={"table": attached["table"]})
    return run


def second_name(store, checkpoint, item="table"):
    (shard,) = checkpoint.info.item_shards[item]
    return store.path / names.shard_path(shard)


def inode(checkpoint, item="table"):
    return (checkpoint.path / f"{item}.safetensors").stat().st_ino


def test_after_a_verification_another_run_writes_the_tensors_anew(store):
    with open_run(store, "first", state()) as run:
        rotten = run.save(0).wait()
    flip(rotten.path / "table.safetensors")
    assert not store.verify().ok
    with open_run(store, "second", state()) as run:
        saved = run.save(0).wait()
    assert inode(saved) != inode(rotten)
    saved.verify()
    assert saved.info.item_shards == rotten.info.item_shards
    with open_run(store, "third", state()) as run:
        assert inode(run.save(0).wait()) == inode(saved)


def test_a_running_training_whose_parent_is_found_damaged_reuses_nothing_of_it(store):
    live = state()
    with open_run(store, "run", live) as run:
        parent = run.save(0).wait()
        live["w"] += 1
        assert inode(run.save(1).wait()) == inode(parent)
        flip(parent.path / "table.safetensors")
        with holdfast.open(store.path) as elsewhere:
            assert not elsewhere.verify("run").ok
        live["w"] += 1
        saved = run.save(2).wait()
        saved.verify()
        assert inode(saved) != inode(parent)
        live["w"] += 1
        assert inode(run.save(3).wait()) == inode(saved)
    assert set(store.verify().intact) >= {saved.id}


def test_what_is_noted_as_damaged_is_not_reused_though_its_second_name_is_left(store):
    live = state()
    with open_run(store, "run", live) as run:
        parent = run.save(0).wait()
        flip(parent.path / "table.safetensors")
        line = {"t": "damaged", "at": 1.0, "id": parent.id, "reason": "said by an older version"}
        store._place.append("run", [line], durable=True)
        assert second_name(store, parent).exists()
        saved = run.save(1).wait()
    saved.verify()
    assert second_name(store, parent).stat().st_ino == inode(saved) != inode(parent)


def test_an_intact_parent_is_reused_as_ever(store):
    with open_run(store, "run", state()) as run:
        parent = run.save(0).wait()
        store.verify()
        assert inode(run.save(1).wait()) == inode(parent)


@pytest.mark.parametrize("attached", [True, False], ids=["restored", "only looked at"])
def test_what_a_resume_passes_over_is_not_reused_by_what_follows(store, attached):
    live = state()
    with open_run(store, "run", live) as run:
        older = run.save(0).wait()
        live["table"] += 1
        live["w"] += 1
        newer = run.save(1).wait()
    flip(newer.path / "table.safetensors")
    with open_run(store, "run", state() if attached else live) as run:
        assert run.resume() == 1
        assert not second_name(store, newer).exists()
        assert second_name(store, older).exists()
        if attached:
            run.attach(model={"w": live["w"]}, table={"table": live["table"]})
        saved = run.save(1).wait()
    assert inode(saved) != inode(newer)
    saved.verify()


def test_all_damaged_shards_of_the_last_checkpoint_are_withdrawn_by_a_resume(store):
    with open_run(store, "run", state()) as run:
        only = run.save(0).wait()
    for item in ("model", "table"):
        flip(only.path / f"{item}.safetensors")
    with open_run(store, "run", state()) as run:
        assert run.resume() == 0
    for item in ("model", "table"):
        assert not second_name(store, only, item).exists()
        assert (only.path / f"{item}.safetensors").stat().st_nlink == 1


def test_the_checkpoint_keeps_its_files_and_a_sound_second_name_stays(store):
    first, second = train(store, "a", [2, 1], frozen=7)
    detach(second.path / "frozen.safetensors")
    flip(second.path / "frozen.safetensors")
    store.verify()
    assert (second.path / "frozen.safetensors").exists()
    assert second_name(store, first, "frozen").exists()
    flip(first.path / "frozen.safetensors")
    store.verify()
    assert not second_name(store, first, "frozen").exists()
    assert (first.path / "frozen.safetensors").exists()


def test_a_place_that_is_only_read_takes_no_name_away(store):
    (saved,) = train(store, "a", [1])
    flip(saved.path / "model.safetensors")
    with holdfast.open(store.path, mode="r") as reader:
        assert not reader.verify().ok
    assert second_name(store, saved, "model").exists()
