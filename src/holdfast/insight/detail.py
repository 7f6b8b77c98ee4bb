"""One run in detail: its metrics, what became of its checkpoints, what was decided."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from holdfast.catalog import RunUsage
from holdfast.errors import ConfigError, NotFoundError
from holdfast.insight.alerts import Alert, alerts_of, worst_first
from holdfast.insight.course import Course
from holdfast.insight.marks import Mark, best_of, marks_of
from holdfast.insight.saves import SaveCosts, save_costs
from holdfast.model import CheckpointRecord, Decision, Mode, RunInfo, metric_mode
from holdfast.reading import RunReader
from holdfast.store import Store

_LAST_WORD = re.compile(r"[^/_.\-]*$")


@dataclass(frozen=True, slots=True)
class MetricDetail:
    """How a metric went.

    Attributes:
        name: Its name.
        mode: Which way round it is better; None where nothing says it.
        points: How often it was reported.
        last: The newest value.
        last_step: Its step.
        lowest: The lowest finite value; None where none is finite.
        highest: The highest one.
        spark: Its course in few values, for a sparkline; NaN where none is finite.
    """

    name: str
    mode: Mode | None
    points: int
    last: float
    last_step: int
    lowest: float | None
    highest: float | None
    spark: tuple[float, ...]

    @property
    def best(self) -> float | None:
        """The best finite value; None where there is none, or no direction is known."""
        if self.mode is None:
            return None
        return self.lowest if self.mode == "min" else self.highest


@dataclass(frozen=True, slots=True)
class RunDetail:
    """A run in detail.

    Attributes:
        info: What is known of it, with its status as it is now.
        steps: How many steps it recorded.
        last_step: The newest of them; None before the first.
        last_at: When it was reported, seconds since the epoch; None before the first.
        metrics: Its metrics as `metrics_in_order` orders them.
        best: Its best checkpoint by its own metric; None where it has none.
        checkpoints: Its newest checkpoints, newest first.
        marks: What became of each checkpoint it ever had, by step.
        decisions: The newest decisions on saves and checkpoints, newest first.
        decided: How many decisions there are in all.
        usage: What it takes.
        costs: How long its saves took.
        alerts: What needs attention, the worst first.
    """

    info: RunInfo
    steps: int
    last_step: int | None
    last_at: float | None
    metrics: tuple[MetricDetail, ...]
    best: CheckpointRecord | None
    checkpoints: tuple[CheckpointRecord, ...]
    marks: tuple[Mark, ...]
    decisions: tuple[Decision, ...]
    decided: int
    usage: RunUsage
    costs: SaveCosts
    alerts: tuple[Alert, ...]

    @property
    def latest(self) -> CheckpointRecord | None:
        """Its newest checkpoint; None before the first."""
        return self.checkpoints[0] if self.checkpoints else None

    def fates(self) -> dict[str, int]:
        """Returns how many checkpoints were kept, thinned, deleted, and failed to be saved."""
        found = dict.fromkeys(("kept", "thinned", "deleted", "failed"), 0)
        for mark in self.marks:
            found[mark.fate] += 1
        return found


def metrics_in_order(course: Course, own: str | None) -> list[str]:
    """Returns a run's metrics as people look at them.

    Its own metric first, then what measures the same elsewhere (``loss`` beside ``val_loss``),
    then the others by name; those that were reported only once, such as a final evaluation, last.

    Args:
        course: Its course, refreshed.
        own: The run's own metric; None where it has none.
    """

    def place(name: str) -> tuple[bool, bool, bool, str]:
        once = len(course.series(name).steps) < 2
        return name != own, once, own is None or _last_word(name) != _last_word(own), name

    return sorted(course.metrics, key=place)


def detail_of(
    store: Store,
    course: Course,
    *,
    spark: int,
    checkpoints: int | None = None,
    decisions: int | None = None,
) -> RunDetail:
    """Returns a run in detail, as it is now.

    Args:
        store: Its store.
        course: The run's course, refreshed.
        spark: How many values a sparkline has at most.
        checkpoints: How many checkpoints are listed at most; left out, all.
        decisions: How many decisions are listed at most; left out, all.

    Raises:
        NotFoundError: There is no such run any more.
    """
    run = store[course.name]
    info = run.info
    decided = [decision for decision in course.decisions if decision.fate != "skipped"]
    newest = decided[::-1]
    last = course.last
    return RunDetail(
        info=info,
        steps=course.steps,
        last_step=last.step if last else None,
        last_at=last.at if last else None,
        metrics=tuple(
            _metric(course, name, info, spark) for name in metrics_in_order(course, info.metric)
        ),
        best=_best(run),
        checkpoints=tuple(c.record for c in run.checkpoints(limit=checkpoints)),
        marks=tuple(marks_of(run, course)),
        decisions=tuple(newest if decisions is None else newest[:decisions]),
        decided=len(decided),
        usage=store.usage().of(course.name),
        costs=save_costs(course.times),
        alerts=tuple(worst_first(list(alerts_of(run, info, course)))),
    )


def _best(run: RunReader) -> CheckpointRecord | None:
    found = best_of(run)
    if found is None:
        return None
    try:
        return run.get(found.id).record
    except NotFoundError:
        # Deleted since it was found.
        return None


def _metric(course: Course, name: str, info: RunInfo, spark: int) -> MetricDetail:
    series = course.series(name)
    finite = series.values[np.isfinite(series.values)]
    return MetricDetail(
        name,
        _mode(name, info),
        len(series.values),
        float(series.values[-1]),
        int(series.steps[-1]),
        float(finite.min()) if len(finite) else None,
        float(finite.max()) if len(finite) else None,
        tuple(series.averaged(spark).tolist()),
    )


def _mode(metric: str, info: RunInfo) -> Mode | None:
    try:
        return metric_mode(metric, info.mode if metric == info.metric else None)
    except ConfigError:
        # Its name says nothing: it has no best value, and people see its range.
        return None


def _last_word(metric: str) -> str:
    found = _LAST_WORD.search(metric)
    return found.group().lower() if found else metric.lower()
