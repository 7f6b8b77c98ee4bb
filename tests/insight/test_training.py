"""A training at a glance: which of its metrics are its loss and its accuracy, and their best."""

import math

import pytest

import holdfast
from holdfast import keep, when
from holdfast.insight import Course
from holdfast.insight.training import HISTORY, newest, training_of
from holdfast.model import RunInfo


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with holdfast.open(tmp_path_factory.mktemp("training") / "store") as store:
        yield store


def told(store, reports, *, metric=None, mode=None, history=HISTORY):
    opened = store.run(
        "r", metric=metric, mode=mode, save=when.never(), keep=keep.all(), if_exists="new"
    )
    with opened as run:
        for step, metrics in enumerate(reports):
            run.step(step, metrics)
    course = Course(store[run.name])
    course.refresh()
    return training_of(store[run.name].info, course, history=history)


@pytest.mark.parametrize(
    ("metric", "reported", "loss", "accuracy", "trend"),
    [
        (None, {"loss": 1, "val_loss": 1, "acc": 0, "accuracy": 0}, "loss", "accuracy", "loss"),
        ("val_loss", {"train/loss": 1, "val_loss": 1}, "val_loss", None, "val_loss"),
        ("val_loss", {"loss": 1, "val_loss": 1}, "loss", None, "val_loss"),
        (None, {"train.loss": 1, "a/loss": 1, "top_acc": 0}, "a/loss", "top_acc", "a/loss"),
        ("reward", {"reward": 1, "action_loss": 1}, "action_loss", None, "reward"),
        (None, {"reward": 1, "lossy": 1, "vacc": 1}, None, None, None),
        (None, {}, None, None, None),
    ],
)
def test_loss_and_accuracy_are_found_by_their_names(store, metric, reported, loss, accuracy, trend):
    found = told(store, [reported], metric=metric)
    assert (found.loss and found.loss.metric) == loss
    assert (found.accuracy and found.accuracy.metric) == accuracy
    assert found.trend_metric == trend
    assert (found.trend is None) is (trend is None)


def test_the_best_is_a_number_and_what_is_current_need_not_be(store):
    nan = float("nan")
    losses, accuracies = (3.0, nan, 1.0, 2.0, nan), (0.1, 0.9, nan, -math.inf, 0.5)
    reports = [{"loss": a, "accuracy": b} for a, b in zip(losses, accuracies, strict=True)]
    found = told(store, reports)
    assert (found.loss.best, found.accuracy.best, found.accuracy.current) == (1.0, 0.9, 0.5)
    assert math.isnan(found.loss.current)
    assert found.trend.direction == "degrading"


def test_a_metric_of_which_nobody_said_the_direction_has_no_trend(store):
    found = told(store, [{"speed": 1}], metric="speed", mode="max")
    assert found.trend.direction == "stable"
    assert told(store, [{"speed": 1}]).trend is None


def test_the_history_is_bounded_and_joins_what_one_step_reported(store):
    reports = [{"loss": n} if n % 2 else {"loss": n, "accuracy": n} for n in range(HISTORY + 10)]
    found = told(store, reports)
    assert (found.steps, len(found.history)) == (HISTORY + 10, HISTORY)
    assert [row.step for row in found.history[:2]] == [10, 11]
    assert [(row.loss, row.accuracy) for row in found.history[:2]] == [(10.0, 10.0), (11.0, None)]
    assert found.history[-1].at == found.last_at
    assert told(store, reports[:3], history=0).history == ()


def test_the_newest_is_the_one_that_is_being_trained():
    old = RunInfo("old", 1.0, status="running")
    new = RunInfo("new", 2.0, status="finished")
    newer = RunInfo("newer", 3.0, status="interrupted")
    assert newest([old, new, newer]) == old
    assert newest([new, newer]) == newer
    assert newest([]) is None
