"""One run, seen closely: what its own page needs, read once."""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.insight.alerts import Alert, alerts_of, worst_first
from holdfast.insight.course import Course
from holdfast.insight.marks import Mark, best_of
from holdfast.insight.overview import Overview
from holdfast.model import CheckpointInfo, Decision, RunInfo
from holdfast.store import Store


@dataclass(frozen=True, slots=True)
class CloseUp:
    """A run, seen closely.

    Attributes:
        info: What is known of it, with its status as it is now.
        course: What it reported and decided, refreshed. Its series may have to wait for somebody
            who reads: ask for them where waiting holds up nobody.
        metrics: Names of its metrics, its own first.
        decisions: What was decided, oldest first.
        marks: Its checkpoints by step, those that are gone and those that failed included.
        alerts: What of it needs attention, the worst first.
        best: Its best checkpoint by its own metric; None where it has none.
        latest: Its newest checkpoint; None before the first.
        checkpoints: How many it has.
        stored_nbytes: Bytes of the distinct shards that it holds.
        unique_nbytes: Bytes of those that no other run holds.
    """

    info: RunInfo
    course: Course
    metrics: tuple[str, ...]
    decisions: tuple[Decision, ...]
    marks: tuple[Mark, ...]
    alerts: tuple[Alert, ...]
    best: CheckpointInfo | None
    latest: CheckpointInfo | None
    checkpoints: int
    stored_nbytes: int
    unique_nbytes: int


def close_up(store: Store, overview: Overview, run: str) -> CloseUp:
    """Returns a run as it is now.

    Args:
        store: The store.
        overview: Its overview, which keeps what was read of the run before.
        run: The run's name.

    Raises:
        NotFoundError: There is no such run.
    """
    course = overview.course(run)
    reader = store[run]
    info = reader.info
    took = store.usage().of(run)
    return CloseUp(
        info=info,
        course=course,
        metrics=tuple(sorted(course.metrics, key=lambda name: (name != info.metric, name))),
        decisions=tuple(course.decisions),
        marks=overview.marks(course),
        alerts=tuple(worst_first(list(alerts_of(reader, info, course)))),
        best=best_of(reader),
        latest=next((found.info for found in reader.checkpoints(limit=1)), None),
        checkpoints=took.checkpoints,
        stored_nbytes=took.stored_nbytes,
        unique_nbytes=took.unique_nbytes,
    )
