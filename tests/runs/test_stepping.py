"""When a step saves: the policies with what a run remembers."""

import math
import shutil
import threading
import time

import numpy as np
import pytest
import torch

import holdfast
from holdfast import keep, when
from tests.runs.samples import Clock, FailingPosix, attached, on_medium, slow, steps_of


def saves_of(run, steps, **metrics):
    """Takes steps and returns those that saved."""
    return [step for step in steps if run.step(step, **metrics)]


def test_every_so_many_steps_counts_from_the_last_save_or_from_minus_one(store):
    with store.run("run", save=when.every(steps=100)) as run:
        attached(run)
        assert saves_of(run, range(400)) == [99, 199, 299, 399]
        run.save(450)
        assert saves_of(run, range(451, 560)) == [550]


def test_at_saves_at_the_first_moment_at_or_past_the_step(store):
    with store.run("run", save=when.at(10, 20)) as run:
        attached(run)
        assert saves_of(run, range(0, 40, 3)) == [12, 21]


def test_a_no_costs_no_input_or_output(store):
    with store.run("run", save=when.never()) as run:
        attached(run)
        before = (store.path / "runs/run/journal.jsonl").read_bytes()
        on_medium(store, medium := FailingPosix())
        medium.error = OSError("no I/O is expected")
        assert not run.step(0, loss=1.0)
        medium.error = None
        run.wait()
        assert (store.path / "runs/run/journal.jsonl").read_bytes() != before
        assert run.history("loss") == [(0, 1.0)]


def test_improved_is_strict_and_the_first_number_counts(store):
    with store.run("run", metric="loss", save=when.improved(by="10%")) as run:
        attached(run)
        losses = [math.nan, 10.0, 9.5, 9.0, 8.9, 8.5, math.inf, -math.inf, 8.0]
        saved = [step for step, loss in enumerate(losses) if run.step(step, loss=loss)]
        assert saved == [1, 4, 8]


def test_either_improvement_is_enough_and_the_reason_says_which(store):
    policy = when.improved("loss") | when.improved("accuracy")
    with store.run("run", save=policy) as run:
        attached(run)
        run.step(0, loss=1.0, accuracy=0.5)
        verdict = run.step(1, loss=2.0, accuracy=0.6)
        run.wait()
        assert verdict.code == "improved"
        assert "accuracy" in verdict.reason
        assert "loss" not in verdict.reason
        assert run.latest().reason == verdict.reason


def test_a_second_call_for_the_same_step_adds_its_metrics_to_it(store):
    with store.run("run", metric="val_loss", save=when.every(steps=1)) as run:
        attached(run)
        run.step(0, loss=1.0)
        run.step(0, val_loss=0.5, epoch=3)
        run.wait()
        assert [c.metrics for c in run.checkpoints()] == [{"loss": 1.0, "val_loss": 0.5}]
        assert run.best().step == 0
        assert run.history("val_loss") == [(0, 0.5)]


def test_the_second_call_may_be_the_one_that_saves(store):
    with store.run("run", save=when.improved("val_loss")) as run:
        attached(run)
        assert not run.step(0, loss=1.0)
        assert run.step(0, val_loss=0.5)
        run.wait()
        assert run.latest().metrics == {"loss": 1.0, "val_loss": 0.5}


def test_only_save_makes_a_second_attempt_for_a_step(store):
    with store.run("run", save=when.always(), keep=keep.all()) as run:
        model = attached(run)
        run.step(0, loss=1.0)
        assert not run.step(0, loss=0.5)
        model["w"][:] = 1.0
        run.save(0)
        run.wait()
        assert steps_of(run) == [0, 0]
        assert run.latest().load("model")["w"][0] == 1.0
        assert run.latest().metrics == {"loss": 0.5}


def test_a_score_of_an_earlier_step_triggers_nothing_and_is_attached_to_nothing(store):
    with store.run("run", save=when.improved("val_loss") | when.every(steps=3)) as run:
        attached(run)
        assert run.step(0, val_loss=1.0)
        assert not run.step(1, loss=1.0)
        assert not run.step(2, loss=0.9)
        assert run.step(3, loss=0.8)
        run.wait()
        assert run.latest().metrics == {"loss": 0.8}


def test_metrics_that_a_save_brings_are_in_the_history(store):
    with store.run("run", save=when.never()) as run:
        attached(run)
        run.step(0, loss=1.0)
        run.save(0, {"reward": 5.0})
        run.wait()
        assert run.history("reward") == [(0, 5.0)]
        assert run.history("loss") == [(0, 1.0)]
        assert run.latest().metrics == {"loss": 1.0, "reward": 5.0}


@pytest.mark.parametrize("move", [None, shutil.move, shutil.copytree])
def test_best_so_far_survives_a_restart_and_a_moved_store(place, move):
    def losses(folder, first, values):
        with holdfast.open(folder) as store:
            options = {"metric": "loss", "save": when.improved(), "keep": keep.latest(1)}
            with store.run("run", **options) as run:
                attached(run)
                run.resume()
                return [bool(run.step(first + i, loss=v)) for i, v in enumerate(values)]

    assert losses(place, 0, [3.0, 1.0]) == [True, True]
    if move is not None:
        elsewhere = place.with_name("elsewhere")
        move(place, elsewhere)
        place = elsewhere
    assert losses(place, 2, [2.0, 0.5]) == [False, True]


def test_best_so_far_covers_deleted_checkpoints(store):
    with store.run("run", save=when.improved("loss"), keep=keep.none()) as run:
        attached(run)
        assert run.step(0, loss=1.0)
        run.wait()
        assert not run.step(1, loss=2.0)


def test_best_so_far_covers_saves_in_flight(store):
    with store.run("run", save=when.improved("loss")) as run:
        attached(run)
        with slow(store):
            assert run.step(0, loss=1.0)
            assert not run.step(1, loss=2.0)


def test_a_failed_save_leaves_best_so_far_as_it_was(store):
    with store.run("run", save=when.improved("loss")) as run:
        attached(run)
        run.step(0, loss=3.0)
        run.wait()
        on_medium(store, medium := FailingPosix())
        medium.error = OSError(5, "Input/output error")
        assert run.step(1, loss=1.0)
        run.wait()
        medium.error = None
        assert run.stats()["best"]["loss"] == (3.0, 3.0)
        assert run.step(2, loss=2.0)


def test_a_save_that_could_not_be_copied_leaves_best_so_far_as_it_was(store, monkeypatch):
    with store.run("run", save=when.improved("loss")) as run:
        attached(run)
        run.step(0, loss=3.0)

        def no_memory(*_):
            raise MemoryError

        with monkeypatch.context() as patched:
            patched.setattr("holdfast.engine.snapshot.Snapshots.take", no_memory)
            verdict = run.step(1, loss=1.0)
        assert not verdict
        assert verdict.code == "failed"
        assert run.stats()["failed"] == 1
        assert run.step(2, loss=2.0)


def test_a_replayed_step_is_judged_as_it_was_the_first_time(store):
    with store.run("run", save=when.improved("loss") | when.every(steps=4)) as run:
        attached(run)
        first = [run.step(step, loss=10.0 - step).code for step in range(6)]
        run.rollback("step:2")
        assert run.history("loss")[-1] == (2, 8.0)
        again = [run.step(step, loss=10.0 - step).code for step in range(3, 6)]
        assert again == first[3:]
        run.wait()
        assert run.history("loss") == [(step, 10.0 - step) for step in range(6)]


def test_the_deadline_saves_once_and_asks_to_stop(store, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(time, "time", clock)
    save = when.improved("loss") | when.deadline(minutes=10)
    with store.run("run", save=save, backlog="skip") as run:
        attached(run)
        run.step(0, loss=1.0)
        assert not run.should_stop
        clock.now += 9.6 * 60
        verdict = run.step(1, loss=0.5)
        assert "deadline" in verdict.reason
        assert run.should_stop
        assert steps_of(run) == [0, 1]
        assert not run.step(2, loss=0.7)
    assert store["run"].status == "interrupted"


def test_the_stop_policy_sees_every_metric_and_says_when(store):
    stop = holdfast.stop.patience("val_loss", checks=2)
    with store.run("run", save=when.never(), stop=stop) as run:
        attached(run)
        run.step(0, val_loss=1.0)
        run.step(1, loss=1.0)
        run.step(2, val_loss=1.0)
        assert not run.should_stop
        run.save(3, {"val_loss": 1.0})
        assert run.should_stop


def test_stats_count_what_became_of_the_saves(store):
    with store.run("run", save=when.always()) as run:
        attached(run)
        for step in range(3):
            run.step(step, loss=1.0)
        run.wait()
        stats = run.stats()
        assert (stats["saved"], stats["failed"], stats["dropped"]) == (3, 0, 0)
        assert stats["last_saved"] == run.latest().id
        assert stats["stall_s"] >= 0
        assert stats["write_s"] > 0


@pytest.mark.parametrize("one", [np.int64(1), np.int32(1), torch.tensor(1)], ids=repr)
def test_integers_of_numpy_and_torch_are_steps_and_epochs(store, one):
    with store.run("run", save=when.always()) as run:
        attached(run)
        run.step(one, loss=1.0, epoch=one)
        run.report(one, accuracy=0.5)
        (checkpoint,) = run.checkpoints()
    assert (checkpoint.step, checkpoint.epoch) == (1, 1)
    assert checkpoint.metrics == {"loss": 1.0, "accuracy": 0.5}


def test_threads_that_step_at_once_lose_no_step_and_no_save(store):
    def steps(first):
        for step in range(first, 80, 4):
            run.step(step, loss=float(step))

    with store.run("run", save=when.always()) as run:
        attached(run)
        threads = [threading.Thread(target=steps, args=(first,), daemon=True) for first in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
        run.wait()
        assert sorted(step for step, _ in run.history("loss")) == list(range(80))
        assert sorted(steps_of(run)) == list(range(80))
