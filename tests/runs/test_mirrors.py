"""A run's mirrors while it trains: behind it, never in its way, and there when it comes back."""

import logging
import shutil
import time

import numpy as np
import pytest

import holdfast
from holdfast import keep, when
from holdfast.engine.names import shard_path
from holdfast.watching import STUCK_S
from tests.runs.media import HangingMedium, in_thread, minutes_of
from tests.runs.samples import Clock, attached, flip, manual, steps_of


@pytest.fixture
def second(place):
    return place.with_name("mirror")


@pytest.fixture
def store(place, second):
    with holdfast.open(place, mirrors=[second]) as opened:
        yield opened


def on_mirror(second, run="run"):
    with holdfast.open(second, mode="r") as found:
        assert found.verify().ok
        return steps_of(found, run)


def hanging(store, call):
    medium = HangingMedium()
    store._place.mirrors[0].storage.posix = medium
    medium.hang_at(call)
    return medium


def messages(log, level):
    return [record.getMessage() for record in log.records if record.levelno == level]


def test_leaving_a_run_leaves_its_mirror_current(store, second):
    with store.run("run", save=when.always(), keep=keep.latest(2)) as run:
        attached(run)
        for step in range(5):
            run.step(step, {"loss": 1.0})
    (told,) = run.stats()["mirrors"]
    assert (told["behind"], told["failed"], told["last_error"]) == (0, 0, None)
    assert told["last_success_at"] <= time.time()
    assert on_mirror(second) == [3, 4]
    ours, theirs = (folder / "runs" / "run" / "journal.jsonl" for folder in (store.path, second))
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize("call", ["pwrite", "rename", "fsync_folder"])
def test_a_mirror_that_hangs_holds_up_neither_saves_nor_waiting(store, second, call):
    run = manual(store)
    run._session.saver.mirrors.wait()
    medium = hanging(store, call)
    try:
        for step in range(3):
            run.save(step).wait(60)
        run.wait()
        assert medium.waiting.wait(60)
        (told,) = run.stats()["mirrors"]
        assert told["busy"]
        assert told["behind"] == 3
    finally:
        medium.wake_up()
    run.close()
    assert run.stats()["mirrors"][0]["behind"] == 0
    assert on_mirror(second) == [0, 1, 2]


def test_saves_that_come_while_a_pass_is_under_way_lead_to_one_more(store, second):
    run = manual(store)
    (follower,) = run._session.saver.mirrors._followers
    passes = []
    follower.wait()
    once = follower._once
    follower._once = lambda: (passes.append(1), once())
    medium = hanging(store, "pwrite")
    run.save(0).wait()
    assert medium.waiting.wait(60)
    begun = len(passes)
    for step in range(1, 6):
        run.save(step).wait()
    run.wait()
    assert len(passes) == begun
    medium.wake_up()
    run.close()
    # One for the saves, and at most one for the closing.
    assert len(passes) <= begun + 2
    assert on_mirror(second) == [0, 1, 2, 3, 4, 5]


def test_leaving_gives_a_hung_mirror_up_after_minutes_and_says_so(store, log, monkeypatch):
    monkeypatch.setattr("holdfast.mirrored._IDLE_S", 0.01)
    run = manual(store)
    run._session.saver.mirrors.wait()
    clock = Clock()
    run._session.saver.mirrors.set_clock(clock)
    medium = hanging(store, "pwrite")
    run.save(0).wait()
    assert medium.waiting.wait(60)
    leaving = in_thread(run.close, meanwhile=minutes_of(clock, STUCK_S))
    assert leaving() is None
    assert any("left before its mirror" in line for line in messages(log, logging.WARNING))
    medium.wake_up()


def test_a_mirror_that_is_not_there_is_told_of_once_and_tried_again(store, second, log):
    run = manual(store)
    run.save(0).wait()
    run.close()
    away = second.with_name("away")
    second.rename(away)
    log.clear()
    run = manual(store)
    for step in (1, 2, 3):
        run.save(step).wait()
    run.wait()
    run._session.saver.mirrors.wait()
    assert not second.exists()
    (told,) = run.stats()["mirrors"]
    assert told["behind"] == 4
    assert "is gone" in told["last_error"]
    assert len(messages(log, logging.ERROR)) == 1
    run.close()
    away.rename(second)
    with store.run("run", save=when.never(), keep=keep.all()) as run:
        attached(run)
    assert on_mirror(second) == [0, 1, 2, 3]


def test_a_mirror_that_cannot_be_made_holds_up_nothing(place, log):
    place.parent.joinpath("file").write_text("in the way")
    with holdfast.open(place, mirrors=[place.parent / "file" / "mirror"]) as store:
        run = manual(store)
        assert run.save(0).wait().step == 0
        run.close()
    assert run.stats()["mirrors"][0]["failed"] >= 1
    assert len(messages(log, logging.ERROR)) == 1


def test_what_the_last_owner_did_not_come_to_is_copied_at_the_next_opening(place, second):
    with holdfast.open(place) as store:
        run = manual(store)
        run.save(0).wait()
        run.close()
    with holdfast.open(place, mirrors=[second]) as store, store.run("run", save=when.never()):
        pass
    assert on_mirror(second) == [0]


# -- resuming --------------------------------------------------------------------------------------


def trained(store):
    run = manual(store)
    model = attached(run)
    for step in range(3):
        model["w"][:] = step
        last = run.save(step).wait()
    run.close()
    return last


def resumed(store):
    with store.run("run", save=when.never(), keep=keep.all()) as run:
        model = attached(run, fill=-1.0)
        return run.resume(), model["w"][0]


LOSSES = {
    "a flipped tensor": flip,
    "a flipped manifest": lambda last: flip(last, "manifest.json"),
    "a missing shard": lambda last: (last.path / "model.safetensors").unlink(),
    "a missing manifest": lambda last: (last.path / "manifest.json").unlink(),
    "all of it": lambda last: shutil.rmtree(last.path),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_resuming_takes_what_is_damaged_or_lost_from_the_mirror(store, place, second, log, loss):
    last = trained(store)
    LOSSES[loss](last)
    assert resumed(store) == (3, 2.0)
    assert any("mirror" in line for line in messages(log, logging.WARNING))
    with holdfast.open(place) as again:
        assert again.verify().ok


def test_the_only_checkpoint_is_taken_from_the_mirror_too(store):
    run = manual(store)
    attached(run)["w"][:] = 5
    only = run.save(0).wait()
    run.close()
    flip(only)
    assert resumed(store) == (1, 5.0)


def test_what_was_healed_at_resuming_is_what_later_saves_share(store):
    last = trained(store)
    (shard,) = last.info.item_shards["model"]
    second = store.path / shard_path(shard)
    damaged = second.stat().st_ino
    flip(last)
    with store.run("run", save=when.never(), keep=keep.all()) as run:
        attached(run, fill=-1.0)
        assert run.resume() == 3
        again = run.save(3).wait()
    names = [*again.path.iterdir(), *last.path.iterdir(), second]
    assert damaged not in {path.stat().st_ino for path in names}
    assert store.verify().ok


def test_what_the_mirror_has_damaged_too_is_passed_over(store, second):
    last = trained(store)
    flip(last)
    with holdfast.open(second, mode="r") as found:
        flip(found.get(last.id))
    assert resumed(store) == (2, 1.0)


def test_a_checkpoint_that_was_deleted_is_not_taken_from_the_mirror(store, second):
    last = trained(store)
    away = second.with_name("away")
    second.rename(away)
    store.delete(last.id).apply()
    away.rename(second)
    assert resumed(store) == (2, 1.0)


def test_training_goes_on_from_the_mirror_alone(place, second):
    with holdfast.open(place, mirrors=[second]) as store:
        trained(store)
    shutil.rmtree(place)
    with holdfast.open(second) as store:
        assert resumed(store) == (3, 2.0)
        assert np.isfinite(store.latest("run").load("model")["w"]).all()


def test_a_save_under_way_is_nothing_that_a_mirror_is_behind_with(store, second):
    with manual(store) as run:
        run.save(0).wait()
        run.wait()
        run._session.saver.mirrors.wait()
        # A folder without a manifest: it is no checkpoint yet, or none any more.
        (store.path / "runs" / "run" / "run_20260101_000000").mkdir()
        assert run.stats()["mirrors"][0]["behind"] == 0
