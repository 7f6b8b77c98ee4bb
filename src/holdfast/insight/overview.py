"""All runs of a store at a glance, and the totals."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from holdfast.catalog import RunUsage
from holdfast.errors import NotFoundError
from holdfast.insight.alerts import Alert, alerts_of, worst_first
from holdfast.insight.course import Course
from holdfast.insight.marks import Mark, Marks, best_of
from holdfast.lifecycle.usage import Budget, Usage
from holdfast.model import CheckpointInfo, RunInfo, metric_mode
from holdfast.reading import RunReader
from holdfast.store import Store

#: What people want to know the best value of, whatever a run is ranked by.
_ASKED_FOR: Final = ("loss", "accuracy")
#: How long what was seen of a run that rests is believed, unless its mark changes.
_REST_S: Final = 30.0
#: Points of a sparkline.
SPARK = 40


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run at a glance.

    Attributes:
        info: What is known of it, with its status as it is now.
        steps: How many steps it recorded.
        last_step: The newest of them; None before the first.
        best: Its best checkpoint by its own metric; None where it has none.
        latest: Its newest checkpoint; None before the first.
        checkpoints: How many it has.
        nbytes: Logical bytes, as if nothing were shared.
        stored_nbytes: Bytes of the distinct shards that it holds.
        spark: Its metric's course in up to `SPARK` values, for a sparkline.
    """

    info: RunInfo
    steps: int
    last_step: int | None
    best: CheckpointInfo | None
    latest: CheckpointInfo | None
    checkpoints: int
    nbytes: int
    stored_nbytes: int
    spark: tuple[float, ...]

    @property
    def best_value(self) -> float | None:
        """The value of its metric at its best checkpoint."""
        return self.best.metrics.get(self.info.metric or "") if self.best else None


@dataclass(frozen=True, slots=True)
class StoreSummary:
    """A store at a glance.

    Attributes:
        runs: Its runs, running ones first, then the newest.
        checkpoints: How many checkpoints it has.
        nbytes: Logical bytes of all, as if nothing were shared.
        stored_nbytes: Bytes of the distinct shards.
        budget: Stored bytes against what they may be, where a budget was given.
        best: Metric to its best value among the runs' best checkpoints; loss and accuracy also
            where they are no run's own.
        last_saved_at: When the newest checkpoint was saved; None before the first.
        alerts: What needs attention, the worst first.
    """

    runs: tuple[RunSummary, ...]
    checkpoints: int
    nbytes: int
    stored_nbytes: int
    budget: Budget | None
    best: dict[str, float]
    last_saved_at: float | None
    alerts: tuple[Alert, ...]


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was seen of a run, and until when it may be believed.

    While somebody trains, nothing is believed: rows may be there before the mark that tells of
    them. A run that rests is looked at again after a while all the same.
    """

    key: object
    until: float
    summary: RunSummary
    alerts: tuple[Alert, ...]

    @property
    def rests(self) -> bool:
        return self.summary.info.status != "running"


class Overview:
    """A store's summary, and its runs' courses, each read once.

    Usable from several threads.

    Args:
        store: The store.
        budget: Bytes that may be stored, or text such as ``"2GB"``.

    Raises:
        ConfigError: The budget is no size.
    """

    def __init__(self, store: Store, *, budget: int | str | None = None) -> None:
        self._store = store
        self._budget = budget
        self._lock = threading.Lock()
        self._courses: dict[str, Course] = {}
        self._marks: dict[str, Marks] = {}
        self._seen: dict[str, _Seen] = {}
        if budget is not None:
            store.usage().against(budget)

    def course(self, run: str) -> Course:
        """Returns a run's course as it is now.

        Raises:
            NotFoundError: There is no such run.
        """
        reader = self._store[run]
        with self._lock:
            course = self._courses.setdefault(run, Course(reader))
        course.refresh()
        return course

    def marks(self, course: Course) -> tuple[Mark, ...]:
        """Returns what became of each of a run's checkpoints, by step.

        Args:
            course: The run's course, as `course` returned it.

        Raises:
            NotFoundError: There is no such run any more.
        """
        with self._lock:
            marks = self._marks.setdefault(course.name, Marks())
        return marks.of(self._store[course.name], course)

    def usage(self) -> tuple[Usage, Budget | None]:
        """Returns what takes space, and how much of the budget it is, where there is one."""
        usage = self._store.usage()
        return usage, usage.against(self._budget) if self._budget is not None else None

    def alerts(self) -> tuple[Alert, ...]:
        """Returns what needs attention now, the worst first."""
        return self.summary().alerts

    def summary(self) -> StoreSummary:
        """Returns the store as it is now."""
        usage, budget = self.usage()
        versions = self._store.versions()
        alerts: list[Alert] = []
        runs: list[RunSummary] = []
        for run in self._store.runs():
            key = (versions.get(run.name), usage.runs.get(run.name))
            try:
                seen = self._look(run, key, usage.runs.get(run.name))
            except NotFoundError:
                # Deleted since it was listed.
                continue
            alerts += seen.alerts
            runs.append(seen.summary)
        if budget is not None and budget.exceeded:
            alerts.append(_over(budget))
        saved = [run.latest.created_at for run in runs if run.latest]
        runs.sort(key=lambda run: (run.info.status != "running", -run.info.created_at))
        return StoreSummary(
            tuple(runs),
            usage.checkpoints,
            usage.nbytes,
            usage.stored_nbytes,
            budget,
            {**self._known_bests(), **_bests(runs)},
            max(saved, default=None),
            tuple(worst_first(alerts)),
        )

    def has_lost_an_owner(self) -> bool:
        """Returns whether a run that was seen being trained is not trained any more.

        Whoever is killed commits nothing, so that only looking tells.
        """
        with self._lock:
            training = [name for name, seen in self._seen.items() if not seen.rests]
        for name in training:
            try:
                if self._store[name].status != "running":
                    return True
            except NotFoundError:
                # Deleted: that is a change that the store tells of itself.
                continue
        return False

    def _look(self, run: RunReader, key: object, took: RunUsage | None) -> _Seen:
        """Returns what there is to be said of a run; one that rests is not read again."""
        known = self._seen.get(run.name)
        now = time.monotonic()
        if known is not None and known.key == key and now < known.until and known.rests:
            return known
        info, course = run.info, self.course(run.name)
        summary = RunSummary(
            info,
            course.steps,
            course.last.step if course.last else None,
            best_of(run),
            next((c.info for c in run.checkpoints(limit=1)), None),
            took.checkpoints if took else 0,
            took.nbytes if took else 0,
            took.stored_nbytes if took else 0,
            _spark(course, info.metric),
        )
        alerts = tuple(alerts_of(run, info, course))
        seen = _Seen(key, now + _REST_S, summary, alerts)
        with self._lock:
            self._seen[run.name] = seen
        return seen

    def _known_bests(self) -> dict[str, float]:
        found = {}
        for metric in _ASKED_FOR:
            with contextlib.suppress(NotFoundError):
                found[metric] = self._store.best(metric).metrics[metric]
        return found


def _spark(course: Course, metric: str | None) -> tuple[float, ...]:
    """Returns the course of a run's own metric, or of the first that it reported."""
    names = course.metrics
    if metric not in names:
        metric = names[0] if names else None
    if metric is None:
        return ()
    return tuple(course.series(metric).averaged(SPARK).tolist())


def _bests(runs: Iterable[RunSummary]) -> dict[str, float]:
    found: dict[str, float] = {}
    for run in runs:
        metric, value = run.info.metric, run.best_value
        if metric is None or value is None or not math.isfinite(value):
            continue
        better = min if metric_mode(metric, run.info.mode) == "min" else max
        found[metric] = better(found.get(metric, value), value)
    return found


def _over(budget: Budget) -> Alert:
    return Alert(
        "warning",
        "over-budget",
        "",
        f"{budget.used_nbytes} bytes are stored, {budget.over_nbytes} more than the budget",
        "holdfast prune --policy 'keep.all().capped(...)' shows what a stricter policy frees",
    )
