"""One run in detail is what the store says of it."""

from __future__ import annotations

import math

import pytest

import holdfast
from holdfast import NotFoundError, keep, when
from holdfast.insight import Course, detail_of, metrics_in_order
from tests.lifecycle.stores import train


@pytest.fixture
def store(tmp_path):
    with holdfast.open(tmp_path / "store") as store:
        yield store


def refreshed(store, name):
    course = Course(store[name])
    course.refresh()
    return course


def test_a_run_in_detail_is_what_the_store_holds(store):
    train(store, "run", [3, 1, 2], policy=keep.best(1) | keep.latest(1))
    detail = detail_of(store, refreshed(store, "run"), spark=2)
    run = store["run"]
    assert [record.info.id for record in detail.checkpoints] == [c.id for c in run.checkpoints()]
    assert detail.latest.info.id == run.latest().id
    assert detail.best.info.id == run.best().id
    assert detail.fates() == {"kept": 2, "thinned": 0, "deleted": 1, "failed": 0}
    assert detail.decided == len(run.decisions())
    assert detail.decisions == tuple(reversed(run.decisions()))
    assert detail.usage == store.usage().of("run")
    few = detail_of(store, refreshed(store, "run"), spark=2, checkpoints=1, decisions=2)
    assert (len(few.checkpoints), len(few.decisions), few.decided) == (1, 2, detail.decided)


def test_a_metric_in_detail_tells_its_range_and_its_best(store):
    with store.run("run", metric="loss", save=when.never()) as run:
        values = [3.0, math.inf, 1.0, math.nan]
        for step, value in enumerate(values):
            run.step(step, {"loss": value, "gain": -1.0, "never": math.nan, "f1": float(step)})
    detail = detail_of(store, refreshed(store, "run"), spark=4)
    found = {metric.name: metric for metric in detail.metrics}
    loss = found["loss"]
    assert (loss.lowest, loss.highest, loss.best, loss.last_step) == (1.0, 3.0, 1.0, 3)
    assert math.isnan(loss.last)
    assert found["f1"].best == 3.0
    assert (found["gain"].mode, found["gain"].best, found["gain"].lowest) == (None, None, -1.0)
    assert (found["never"].lowest, found["never"].best) == (None, None)
    assert (detail.steps, detail.last_step, detail.best) == (4, 3, None)


ORDERS = [
    ("val_loss", ["val_loss", "loss", "a", "accuracy", "test_loss"]),
    ("accuracy", ["accuracy", "a", "loss", "val_loss", "test_loss"]),
    (None, ["a", "accuracy", "loss", "val_loss", "test_loss"]),
]


@pytest.mark.parametrize(("own", "expected"), ORDERS)
def test_metrics_come_in_the_order_in_which_people_look_at_them(store, own, expected):
    with store.run("run", metric=own, save=when.never()) as run:
        for step in range(2):
            run.step(step, {"val_loss": 1.0, "loss": 1.0, "a": 1.0, "accuracy": 1.0})
        run.step(2, {"test_loss": 1.0})
    assert metrics_in_order(refreshed(store, "run"), own) == expected


def test_a_run_that_is_gone_is_not_found(store):
    train(store, "run", [1])
    course = refreshed(store, "run")
    store.delete("run").apply()
    with pytest.raises(NotFoundError, match="run"):
        detail_of(store, course, spark=1)
