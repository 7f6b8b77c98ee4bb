"""A training at a glance: loss and accuracy now and at their best, and where they are going."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from holdfast.errors import ConfigError
from holdfast.insight.course import Course, Numbers
from holdfast.insight.trend import Trend, trend_of
from holdfast.model import RunInfo, metric_mode

#: How much of its history is told; all of it is in the store.
HISTORY: Final = 1000

_LOSS: Final = ("loss",)
_ACCURACY: Final = ("accuracy", "acc")


@dataclass(frozen=True, slots=True)
class Value:
    """A metric of a training.

    Attributes:
        metric: Its name.
        current: What was reported last.
        best: The best finite value of all; None where there is none.
    """

    metric: str
    current: float
    best: float | None


@dataclass(frozen=True, slots=True)
class Reported:
    """What one step reported; None where it said nothing of it."""

    step: int
    at: float
    loss: float | None
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class Training:
    """A training at a glance.

    Attributes:
        run: Its run.
        steps: How many steps it recorded.
        last_at: When the newest was, seconds since the epoch; None before the first.
        loss: Its loss; None where it reports none.
        accuracy: Its accuracy; None where it reports none.
        trend: How its metric goes; None where it has none, or nobody said its direction.
        trend_metric: The metric that the trend is of: the run's own, else the loss, else the
            accuracy.
        history: The newest `HISTORY` of its reports at most, oldest first.
    """

    run: RunInfo
    steps: int
    last_at: float | None
    loss: Value | None
    accuracy: Value | None
    trend: Trend | None
    trend_metric: str | None
    history: tuple[Reported, ...]


def training_of(info: RunInfo, course: Course, *, history: int = HISTORY) -> Training:
    """Returns a training at a glance.

    A run's loss is its metric ``loss``; without one, its own metric where the name ends in it
    (``val_loss``), else the first such name. Its accuracy likewise, by ``accuracy`` or ``acc``.

    Args:
        info: What is known of the run.
        course: Its course, refreshed.
        history: How many reports are told, `HISTORY` at most.
    """
    loss, accuracy = (_named(info, course.metrics, words) for words in (_LOSS, _ACCURACY))
    own = info.metric if info.metric in course.metrics else loss or accuracy
    return Training(
        info,
        course.steps,
        course.last.at if course.last else None,
        _value(course, loss, np.minimum),
        _value(course, accuracy, np.maximum),
        _trend(info, course, own),
        own,
        _history(course, loss, accuracy, min(history, HISTORY)),
    )


def newest(infos: Iterable[RunInfo]) -> RunInfo | None:
    """Returns the newest run that is being trained, else the newest; None where there is none."""
    return max(
        infos, key=lambda info: (info.status == "running", info.created_at, info.name), default=None
    )


def _named(info: RunInfo, metrics: Iterable[str], words: tuple[str, ...]) -> str | None:
    found = [name for name in metrics if _last_word(name) in words]
    first = [name for name in words if name in found]
    own = [info.metric] if info.metric in found else []
    return next(iter((*first, *own, *found)), None)


def _last_word(name: str) -> str:
    for mark in "/.-":
        name = name.replace(mark, "_")
    return name.lower().rpartition("_")[2]


def _value(course: Course, metric: str | None, better: np.ufunc) -> Value | None:
    if metric is None:
        return None
    values = course.series(metric).values
    finite: Numbers = values[np.isfinite(values)]
    best = float(better.reduce(finite)) if len(finite) else None
    return Value(metric, float(values[-1]), best)


def _trend(info: RunInfo, course: Course, metric: str | None) -> Trend | None:
    if metric is None:
        return None
    try:
        mode = metric_mode(metric, info.mode if metric == info.metric else None)
    except ConfigError:
        # A metric of which nobody said which way round it is better.
        return None
    return trend_of(course.series(metric).values, mode)


def _history(
    course: Course, loss: str | None, accuracy: str | None, most: int
) -> tuple[Reported, ...]:
    rows: dict[tuple[float, int], list[float | None]] = {}
    for place, metric in enumerate((loss, accuracy)):
        if metric is None or most == 0:
            continue
        series = course.series(metric)
        for step, at, value in zip(
            series.steps[-most:].tolist(),
            series.at[-most:].tolist(),
            series.values[-most:].tolist(),
            strict=True,
        ):
            rows.setdefault((at, step), [None, None])[place] = value
    newest_rows = sorted(rows.items())[-most:] if most else []
    return tuple(Reported(step, at, row[0], row[1]) for (at, step), row in newest_rows)
