"""What became of each checkpoint of a run: the dots on its charts."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal

from holdfast.errors import ConfigError, NotFoundError
from holdfast.insight.course import Course
from holdfast.model import CheckpointInfo, Decision
from holdfast.reading import RunReader

MarkFate = Literal["kept", "thinned", "deleted", "failed"]
#: What a later decision says of a checkpoint replaces what an earlier one said.
_FATES: Final[dict[str, MarkFate]] = {
    "saved": "kept",
    "kept": "kept",
    "thinned": "thinned",
    "deleted": "deleted",
    "failed": "failed",
}


@dataclass(frozen=True, slots=True)
class Mark:
    """A checkpoint on a chart, whether it is still there or not.

    Attributes:
        id: The checkpoint's id; empty for a save that failed before it had one.
        step: Its step.
        at: When it was saved, seconds since the epoch.
        fate: What became of it.
        reason: Why it was saved.
        why: Why it was kept, thinned or deleted, or how it failed; empty while nothing was said.
        best: Whether it is the run's best.
        pinned: Whether it is protected from every policy.
        damaged: Whether a verification found it broken.
        tags: Its tags.
    """

    id: str
    step: int
    at: float
    fate: MarkFate
    reason: str = ""
    why: str = ""
    best: bool = False
    pinned: bool = False
    damaged: bool = False
    tags: tuple[str, ...] = ()


def marks_of(run: RunReader, course: Course) -> list[Mark]:
    """Returns a run's checkpoints by step, those that are gone and those that failed included.

    Args:
        run: The run.
        course: Its course, refreshed.
    """
    return list(Marks().of(run, course))


class Marks:
    """A run's marks, kept up to date: each decision is looked at once.

    Usable from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._decided: dict[str, Mark] = {}
        self._read: list[Decision] = []

    def of(self, run: RunReader, course: Course) -> tuple[Mark, ...]:
        """Returns a run's marks; arguments and order as for `marks_of`."""
        with self._lock:
            decisions = course.decisions
            known = len(self._read)
            if decisions[known - 1 : known] != self._read[-1:] or known > len(decisions):
                # The run was deleted and made anew.
                self._decided, known = {}, 0
            _decide(self._decided, decisions[known:])
            self._read = decisions
            marks = dict(self._decided)
        return tuple(_completed(run, marks))


def _completed(run: RunReader, marks: dict[str, Mark]) -> list[Mark]:
    """Returns marks with what the run's checkpoints say of themselves now."""
    best = best_of(run)
    if best is not None and best.id in marks:
        marks[best.id] = replace(marks[best.id], best=True)
    for info in _special(run):
        known = marks.get(info.id) or Mark(info.id, info.step, info.created_at, "kept", info.reason)
        marks[info.id] = replace(
            known,
            fate="thinned" if info.thinned else "kept",
            pinned=info.pinned,
            damaged=info.damaged,
            tags=info.tags,
        )
    return sorted(marks.values(), key=lambda mark: (mark.step, mark.at))


def _decide(marks: dict[str, Mark], decisions: Iterable[Decision]) -> None:
    for decision in decisions:
        fate = _FATES.get(decision.fate)
        if fate is None:
            continue
        # A save that failed early has no id; its step and time tell it from others.
        key = decision.checkpoint_id or f"{decision.step} {decision.at}"
        known = marks.get(key)
        if known is None or decision.fate == "saved":
            reason = decision.reason if decision.fate == "saved" else ""
            why = "" if decision.fate == "saved" else decision.reason
            known = Mark(
                decision.checkpoint_id or "", decision.step, decision.at, fate, reason, why
            )
        else:
            # What was thinned and is kept by a later plan is not whole again.
            still = known.fate == "thinned" and fate == "kept"
            known = replace(known, fate="thinned" if still else fate, why=decision.reason)
        marks[key] = known


def _special(run: RunReader) -> list[CheckpointInfo]:
    """Returns what is pinned, damaged or tagged, without reading all that is not."""
    found: dict[str, CheckpointInfo] = {}
    for where in ("pinned = true", "damaged = true", 'tag = "*"'):
        found.update({c.id: c.info for c in run.checkpoints(where=where)})
    return list(found.values())


def best_of(run: RunReader) -> CheckpointInfo | None:
    """Returns a run's best checkpoint; None where nothing says which it is."""
    try:
        return run.best().info
    except (NotFoundError, ConfigError):
        # No metric of its own, no direction, or no checkpoint that has it.
        return None
