"""A medium that answers no more: training is told, and never waits for ever."""

import errno
import functools
import logging
import os
import subprocess
import sys

import numpy as np
import pytest

import holdfast
from holdfast import keep, when
from holdfast.engine import background
from holdfast.watching import SLOW_S, STUCK_S, SaveWatch
from tests.runs.media import HangingMedium, in_thread, minutes_of
from tests.runs.samples import Clock, FailingPosix, attached, on_medium, saved, steps_of


@pytest.fixture
def medium(store, monkeypatch):
    monkeypatch.setattr(background, "_IDLE_S", 0.01)
    medium = HangingMedium()
    on_medium(store, medium)
    yield medium
    medium.wake_up()


@pytest.fixture
def clock():
    return Clock(now=1000.0)


def opened(store, clock, **options):
    """Returns a run whose saves are timed by a clock of the test's, and its model."""
    run = store.run("run", **{"save": when.never(), "keep": keep.all(), **options})
    run._session.saver.watch = SaveWatch(clock)
    return run, attached(run)


def hanging_save(run, medium, call, step=0):
    medium.hang_at(call)
    pending = run.save(step)
    assert medium.waiting.wait(60)
    return pending


def warnings(log):
    return [r.getMessage() for r in log.records if r.levelno == logging.WARNING]


# -- telling ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["pwrite", "fsync", "open_append", "create", "fsync_folder"])
def test_a_step_warns_once_of_a_save_that_does_not_move(store, medium, clock, log, call):
    run, _ = opened(store, clock)
    pending = hanging_save(run, medium, call)
    clock.now += SLOW_S - 0.1
    run.step(1)
    assert warnings(log) == []
    clock.now += 0.1
    for step in (2, 3):
        run.step(step)
    (warning,) = warnings(log)
    assert "the save of step 0 has made no progress for 30 s" in warning
    medium.wake_up()
    pending.wait(60)
    run.close()


def test_a_save_that_gets_on_slowly_is_not_warned_of(store, medium, clock, log):
    run, _ = opened(store, clock)
    calls = iter(range(1000))
    for step in range(3):
        clock.now += SLOW_S - 1
        pending = hanging_save(run, medium, "fsync", step=step)
        run.step(10 + next(calls))
        medium.wake_up()
        pending.wait(60)
        run.wait()
    assert warnings(log) == []
    # And after it has moved, the next standstill is told of again.
    watch = run._session.saver.watch
    watch.begin(7, 100)
    for _ in range(2):
        clock.now += SLOW_S
        assert "step 7" in watch.slow()
        assert watch.slow() == ""
        watch.move("writing", 10)
        assert watch.slow() == ""
    watch.end()
    clock.now += SLOW_S
    assert watch.slow() == ""
    run.close()


def test_stats_tell_what_the_save_does_and_how_far_it_is(store, medium, clock):
    run, model = opened(store, clock)
    model["w"] = np.zeros(1000)
    assert run.stats()["saving"] is None
    pending = hanging_save(run, medium, "pwrite", step=5)
    clock.now += 7.0
    saving = run.stats()["saving"]
    # With the states of the random number generators, which come after the model.
    assert saving.pop("nbytes") > 8000
    assert saving == {
        "step": 5, "phase": "syncing", "written_nbytes": 8000, "for_s": 7.0, "still_s": 7.0,
    }  # fmt: skip
    medium.wake_up()
    pending.wait(60)
    run.wait()
    assert run.stats()["saving"] is None
    pending = hanging_save(run, medium, "open_append", step=6)
    saving = run.stats()["saving"]
    assert (saving["step"], saving["written_nbytes"]) == (6, 0)
    assert saving["phase"]
    assert run.stats()["in_flight"]
    medium.wake_up()
    pending.wait(60)
    run.close()


def test_a_save_that_failed_is_not_under_way_any_more(store, clock):
    run, _ = opened(store, clock)
    on_medium(store, broken := FailingPosix())
    broken.error = OSError(errno.EIO, os.strerror(errno.EIO))
    with pytest.raises(holdfast.SaveError):
        run.save(0).wait(60)
    run.wait()
    clock.now += STUCK_S
    assert run.stats()["saving"] is None
    broken.error = None
    assert saved(run, 1).step == 1
    run.close()


# -- not waiting for ever --------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["pwrite", "fsync", "open_append", "rename"])
def test_after_minutes_saves_are_left_out_with_a_verdict_that_says_so(store, medium, clock, call):
    run, model = opened(store, clock, save=when.always())
    medium.hang_at(call)
    assert run.step(0)
    assert medium.waiting.wait(60)
    clock.now += STUCK_S
    verdict = run.step(1)
    assert not verdict
    assert verdict.code == "skipped"
    assert "the save of step 0 has made no progress for 300 s" in verdict.reason
    assert run.stats()["dropped"] == 1
    model["w"][:] = 2.0
    medium.wake_up()
    run.wait()
    # What had been promised came through, and saves go on.
    assert run.step(2)
    run.wait()
    assert steps_of(run) == [0, 2]
    assert run.get("step:0").load("model")["w"].tolist() == [0.0] * 8
    run.close()


def test_a_step_that_waits_already_gives_up_when_the_time_has_come(store, medium, clock):
    run, _ = opened(store, clock, save=when.always())
    medium.hang_at("fsync")
    run.step(0)
    assert medium.waiting.wait(60)
    waiting = in_thread(lambda: run.step(1), meanwhile=minutes_of(clock, STUCK_S))
    assert waiting().code == "skipped"
    medium.wake_up()
    run.close()


@pytest.mark.parametrize("act", ["save", "wait", "close", "resume", "finish"])
def test_what_cannot_go_on_without_the_medium_says_that_it_does_not_answer(
    store, medium, clock, act
):
    run, _ = opened(store, clock)
    saved(run, 0)
    pending = hanging_save(run, medium, "fsync", step=1)
    doing = in_thread(
        functools.partial(getattr(run, act), *([2] if act == "save" else [])),
        meanwhile=minutes_of(clock, STUCK_S),
    )
    error = doing()
    assert isinstance(error, holdfast.SaveError)
    assert "the save of step 1 has made no progress" in error.message
    assert "does not answer" in error.hint
    assert run.open
    medium.wake_up()
    assert pending.wait(60).step == 1
    run.close()
    assert not run.open
    assert steps_of(store, "run") == [0, 1]


def test_leaving_the_block_raises_and_hides_no_error_of_the_loop(store, medium, clock, log):
    run, _ = opened(store, clock)

    def loop(error):
        with run:
            hanging_save(run, medium, "fsync")
            clock.now += STUCK_S
            if error is not None:
                raise error

    with pytest.raises(ZeroDivisionError):
        loop(ZeroDivisionError())
    assert "on leaving run: the save of step 0 has made no progress" in log.text
    medium.wake_up()
    run.wait()
    with pytest.raises(holdfast.SaveError, match="step 0 has made no progress"):
        loop(None)
    medium.wake_up()
    run.close()


def test_a_save_that_is_replaced_waits_for_nothing(store, medium, clock):
    run, _ = opened(store, clock, save=when.always(), backlog="latest")
    medium.hang_at("fsync")
    run.step(0)
    assert medium.waiting.wait(60)
    clock.now += STUCK_S
    assert [bool(run.step(step)) for step in (1, 2, 3)] == [True] * 3
    medium.wake_up()
    run.close()
    assert steps_of(store, "run") == [0, 3]


def test_a_clean_up_that_hangs_holds_nothing_up_for_ever(store, medium, clock):
    run, _ = opened(store, clock, save=when.always(), keep=keep.latest(1))
    run.step(0)
    run.wait()
    medium.hang_at("unlink")
    run.step(1)
    assert medium.waiting.wait(60)
    # One save finds room behind the clean-up, the next one does not.
    assert run.step(2)
    assert run.stats()["saving"]["phase"] == "cleaning up"
    clock.now += STUCK_S
    assert run.step(3).code == "skipped"
    with pytest.raises(holdfast.SaveError, match="cleaning up"):
        run.wait()
    medium.wake_up()
    run.close()
    assert steps_of(store, "run") == [2]


def test_rows_that_cannot_be_written_hold_no_save_up_for_ever(store, medium, clock):
    run, _ = opened(store, clock, save=when.at(5, 6))
    medium.hang_at("open_append")
    run.step(0, loss=1.0)
    assert medium.waiting.wait(60)
    assert run.step(5)
    assert run.stats()["saving"]["phase"] == "queued"
    clock.now += STUCK_S
    verdict = run.step(6)
    assert verdict.code == "skipped"
    assert "step 5 has made no progress" in verdict.reason
    medium.wake_up()
    run.close()
    assert steps_of(store, "run") == [5]
    assert [row.step for row in store["run"].steps()] == [0, 5, 6]


# -- written from where it lies --------------------------------------------------------------------


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
def test_a_save_in_place_that_is_given_up_never_becomes_a_checkpoint(store, medium, clock, call):
    run, model = opened(store, clock, memory=10)
    kept = saved(run, 0)
    model["w"][:] = 1.0
    medium.hang_at(call)
    saving = in_thread(lambda: run.save(1), meanwhile=minutes_of(clock, STUCK_S))
    assert medium.waiting.wait(60)
    pending = saving()
    assert not pending.done()
    # Training goes on, and what is written may by now be half of this and half of that.
    model["w"][:4] = 2.0
    medium.wake_up()
    with pytest.raises(holdfast.SaveError, match="step 1 has made no progress"):
        pending.wait(60)
    run.wait()
    assert run.checkpoints() == [kept]
    assert [path for path in store.path.rglob("*") if path.name.startswith(".tmp-")] == []
    model["w"][:] = 3.0
    assert saved(run, 2).load("model")["w"].tolist() == [3.0] * 8
    run.close()
    assert store.verify().ok
    assert steps_of(store, "run") == [0, 2]


def test_a_process_that_ends_does_not_wait_for_the_medium(tmp_path):
    """A lock goes with its process: the next one takes the run over."""
    script = f"""
import threading
import holdfast
from holdfast import when, keep
from holdfast.engine import background
from holdfast.storage import Posix
from holdfast.watching import SaveWatch
import numpy as np
background._IDLE_S = 0.01
class Hanging(Posix):
    hung = threading.Event()
    def fsync(self, fd):
        self.hung.set()
        threading.Event().wait()
now = [0.0]
store = holdfast.open({str(tmp_path / "store")!r})
run = store.run("run", save=when.never(), keep=keep.all())
run._session.saver.watch = SaveWatch(lambda: now[0])
run.attach(model={{"w": np.zeros(8)}})
run.save(0).wait()
run.wait()
store._place.storage.posix = Hanging()
run.save(1)
assert Hanging.hung.wait(60)
now[0] = 1000.0
print("ended")
"""
    done = run_script(script)
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr
    assert "has made no progress" in done.stderr
    with holdfast.open(tmp_path / "store") as store, store.run("run", save=when.never()) as run:
        assert steps_of(run) == [0]


def run_script(script):
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
