"""What needs somebody's attention, the worst first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from holdfast.insight.course import Course
from holdfast.model import RunInfo
from holdfast.reading import RunReader

Severity = Literal["error", "warning"]
_ORDER: Final[tuple[Severity, ...]] = ("error", "warning")


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that is not as it should be.

    Attributes:
        severity: ``error``: something is lost or being lost; ``warning``: look at it.
        kind: ``failed-save``, ``damaged``, ``interrupted`` or ``over-budget``.
        run: The run it is about; empty for the store.
        text: What it is, as a sentence.
        hint: What to do, as a sentence or a command.
        checkpoint: The checkpoint it is about; empty where it is about none.
    """

    severity: Severity
    kind: str
    run: str
    text: str
    hint: str
    checkpoint: str = ""


def worst_first(alerts: list[Alert]) -> list[Alert]:
    """Returns alerts by severity, then by run."""
    return sorted(alerts, key=lambda alert: (_ORDER.index(alert.severity), alert.run))


def alerts_of(run: RunReader, info: RunInfo, course: Course) -> Iterator[Alert]:
    """Yields what is to be said of one run.

    Args:
        run: The run.
        info: What is known of it.
        course: Its course, refreshed.
    """
    yield from _failing(info, course)
    for checkpoint in run.checkpoints(where="damaged = true"):
        yield Alert(
            "error",
            "damaged",
            info.name,
            f"{checkpoint.id} is damaged",
            f"holdfast verify {checkpoint.id}; holdfast doctor --apply heals it from a mirror",
            checkpoint.id,
        )
    if info.status in ("interrupted", "failed"):
        ended = "ended without a word" if info.status == "interrupted" else "ended with an error"
        yield Alert(
            "warning",
            "interrupted",
            info.name,
            f"{info.name} {ended}",
            "start it again: resume() goes on from its newest intact checkpoint",
        )


def _failing(info: RunInfo, course: Course) -> Iterator[Alert]:
    """Yields the newest failure to save, where no later save succeeded."""
    for decision in reversed(course.decisions):
        if decision.fate == "saved":
            return
        if decision.fate == "failed":
            yield Alert(
                "error",
                "failed-save",
                info.name,
                f"{info.name} could not save step {decision.step}: {decision.reason}",
                "see to the disk; training goes on, and the next save tries again",
                decision.checkpoint_id or "",
            )
            return
