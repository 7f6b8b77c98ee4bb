"""What people see of a store is what the store holds, kept up to date, each row read once."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

import holdfast
from holdfast import ConfigError, NotFoundError, SaveError, keep, when
from holdfast.insight import Course, Overview, marks_of, save_costs
from tests.lifecycle.stores import train


@pytest.fixture
def store(tmp_path):
    with holdfast.open(tmp_path / "store") as store:
        yield store


# -- courses -----------------------------------------------------------------------------------


def test_a_course_follows_a_run_and_reads_each_row_once(store):
    with store.run("run", save=when.never()) as run:
        course = Course(store["run"])
        assert not course.refresh()
        for step in range(3):
            run.step(step, loss=1.0 / (step + 1), accuracy=math.nan if step == 1 else 0.5)
        run.wait()
        assert course.refresh()
        assert not course.refresh()
        run.step(3, loss=0.1)
        run.wait()
        assert course.refresh()
    assert course.metrics == ["accuracy", "loss"]
    assert course.steps == 4
    assert course.last.step == 3
    assert course.series("loss").steps.tolist() == [0, 1, 2, 3]
    assert course.series("loss").values.tolist() == [1, 1 / 2, 1 / 3, 0.1]
    assert math.isnan(course.series("accuracy").values[1])
    assert len(course.series("never").steps) == 0


def test_a_resumed_run_shows_the_replay_alone(store):
    with store.run("run", save=when.every(steps=2), keep=keep.all()) as run:
        run.attach(model={"w": np.zeros(3)})
        for step in range(4):
            run.step(step, loss=float(step))
        run.wait()
    course = Course(store["run"])
    course.refresh()
    before = course.series("loss").steps.tolist()
    with store.run("run", save=when.every(steps=2), keep=keep.all()) as run:
        run.attach(model={"w": np.zeros(3)})
        begin = run.resume()
        run.step(begin, loss=10.0)
        run.wait()
        course.refresh()
    assert before == [0, 1, 2, 3]
    assert course.series("loss").steps.tolist() == [
        step for step, _ in store["run"].history("loss")
    ]
    assert course.series("loss").values[-1] == 10.0


@pytest.mark.parametrize("points", [9, 99, 100, 101, 5000])
def test_thinned_series_keep_their_ends_and_their_extremes(store, points):
    pytest.importorskip("tsdownsample")
    values = np.random.default_rng(7).normal(size=points)
    values[points // 2] = 50.0
    values[points // 3] = -50.0
    with store.run("run", save=when.never()) as run:
        for step, value in enumerate(values):
            run.step(step, loss=float(value))
    course = Course(store["run"])
    course.refresh()
    whole = course.series("loss")
    thinned = whole.thinned(100)
    assert thinned.total == points
    assert len(thinned.steps) == min(points, 100)
    assert (thinned.steps[0], thinned.steps[-1]) == (0, points - 1)
    assert np.all(np.diff(thinned.steps) > 0)
    assert {50.0, -50.0} <= set(thinned.values)
    assert whole.between(10, 19).steps.tolist() == list(range(10, min(20, points)))
    with pytest.raises(ConfigError, match="ask for 4 or more"):
        whole.thinned(3)


def test_averages_have_gaps_where_nothing_is_finite_and_never_overflow(store):
    values = [math.nan] * 10 + [1e308] * 10 + [1.0, 3.0] * 5
    with store.run("run", save=when.never()) as run:
        for step, value in enumerate(values):
            run.step(step, loss=value)
    course = Course(store["run"])
    course.refresh()
    first, second, third = course.series("loss").averaged(3)
    assert math.isnan(first)
    assert (second, third) == (pytest.approx(1e308), pytest.approx(2.0))
    assert len(course.series("loss").averaged(1000)) == 30


# -- marks -------------------------------------------------------------------------------------


def test_each_checkpoint_has_a_mark_the_deleted_and_the_failed_too(store):
    saved = train(store, "run", [5, 1, 3, 4, 2], policy=keep.best(2) | keep.latest(1))
    saved[1].pin()
    saved[1].tag("prod")
    course = Course(store["run"])
    course.refresh()
    marks = {mark.id: mark for mark in marks_of(store["run"], course)}
    there = {c.id for c in store.checkpoints("run")}
    assert {i for i, mark in marks.items() if mark.fate == "kept"} == there
    assert {i for i, mark in marks.items() if mark.fate == "deleted"} == {
        c.id for c in saved if c.id not in there
    }
    assert [mark.id for mark in marks.values() if mark.best] == [saved[1].id]
    assert marks[saved[1].id].pinned
    assert marks[saved[1].id].tags == ("prod",)
    assert all(mark.why for mark in marks.values() if mark.fate == "deleted")
    assert [mark.step for mark in marks.values()] == sorted(mark.step for mark in marks.values())


def test_a_thinned_checkpoint_that_a_later_clean_up_keeps_is_a_thinned_one(store):
    train(store, "run", [5, 1, 2, 3], policy=keep.best(2).items("model") | keep.latest(1), frozen=1)
    course = Course(store["run"])
    course.refresh()
    marks = {mark.id: mark.fate for mark in marks_of(store["run"], course)}
    held = {c.id: "thinned" if c.thinned else "kept" for c in store.checkpoints("run")}
    assert "thinned" in held.values()
    assert {i: fate for i, fate in marks.items() if i in held} == held


# -- overview ----------------------------------------------------------------------------------


def test_the_overview_says_what_the_store_holds(store):
    train(store, "a", [3, 1, 2])
    train(store, "b", [0.5], policy=keep.all())
    summary = Overview(store, budget="1MB").summary()
    assert {run.info.name for run in summary.runs} == {"a", "b"}
    run = next(run for run in summary.runs if run.info.name == "a")
    assert (run.checkpoints, run.best_value, run.last_step) == (3, 1.0, 2)
    assert run.spark == (3.0, 1.0, 2.0)
    assert summary.best == {"loss": 0.5}
    assert summary.checkpoints == 4
    assert summary.stored_nbytes == store.usage().stored_nbytes
    assert summary.budget.limit_nbytes == 10**6
    assert summary.last_saved_at == store.latest().created_at
    assert summary.alerts == ()


def test_an_empty_store_is_an_empty_overview(store):
    summary = Overview(store).summary()
    assert (summary.runs, summary.checkpoints, summary.last_saved_at) == ((), 0, None)
    with pytest.raises(NotFoundError):
        Overview(store).course("nothing")


def test_damage_and_an_exceeded_budget_are_alerts_worst_first(store):
    saved = train(store, "run", [3, 1])
    file = saved[0].path / "model.safetensors"
    file.chmod(0o644)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    store.verify()
    summary = Overview(store, budget="10B").summary()
    assert [(a.severity, a.kind) for a in summary.alerts] == [
        ("error", "damaged"),
        ("warning", "over-budget"),
    ]
    assert summary.alerts[0].checkpoint == saved[0].id
    with pytest.raises(ConfigError):
        Overview(store, budget="much")


def test_an_owner_that_died_is_an_alert_until_the_run_goes_on(store):
    script = """
import os, sys, holdfast
run = holdfast.open(sys.argv[1]).run("run")
run.step(0, loss=1.0)
run.wait()
os._exit(1)
"""
    subprocess.run([sys.executable, "-c", script, str(store.path)], check=False)
    assert [alert.kind for alert in Overview(store).summary().alerts] == ["interrupted"]
    with store.run("run"):
        assert Overview(store).summary().alerts == ()


def test_a_save_that_failed_is_an_alert_until_one_succeeds(store, monkeypatch):
    with store.run("run", save=when.never(), keep=keep.all()) as run:
        run.attach(model={"w": np.zeros(4)})
        with monkeypatch.context() as broken:
            broken.setattr(
                "holdfast.storage.posix.Posix.rename",
                lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")),
            )
            with pytest.raises(SaveError):
                run.save(0).wait()
        failed = Overview(store).summary().alerts
        run.save(1).wait()
        assert Overview(store).summary().alerts == ()
    assert [(alert.severity, alert.kind) for alert in failed] == [("error", "failed-save")]


# -- saves -------------------------------------------------------------------------------------


def test_what_saves_cost_is_told_in_series_and_in_a_sentence(store):
    with store.run("run", save=when.never(), keep=keep.latest(1)) as run:
        run.attach(model={"w": np.zeros(1000)})
        for step in (0, 5, 9):
            run.save(step).wait()
    course = Course(store["run"])
    course.refresh()
    costs = save_costs(course.times)
    assert costs.stall_ms.steps.tolist() == costs.durable_ms.steps.tolist() == [0, 5, 9]
    times = store["run"].times_since().rows
    assert costs.stall_ms.values.tolist() == [1000 * one.stall_s for one in times]
    assert costs.durable_ms.values.tolist() == [1000 * one.write_s for one in times]
    assert "medians of 3" in costs.text
    assert save_costs([]).text == ""
