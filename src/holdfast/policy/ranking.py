"""Orders of checkpoints: oldest first, and best first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from holdfast.model import CheckpointInfo, Mode
from holdfast.policy.metric import finite

Ties = Literal["incumbent", "newest"]


def oldest_first(infos: Iterable[CheckpointInfo]) -> list[CheckpointInfo]:
    """Returns checkpoints in the order of their commit; step and id break ties of the time."""
    return sorted(infos, key=commit_order)


def commit_order(info: CheckpointInfo) -> tuple[float, int, str]:
    """Returns what checkpoints are sorted by to have the oldest first."""
    return info.created_at, info.step, info.id


def best_first(
    infos: Sequence[CheckpointInfo], metric: str, *, mode: Mode, ties: Ties = "incumbent"
) -> list[CheckpointInfo]:
    """Returns checkpoints by a metric; those without a finite value come last, newest first.

    The order is total and does not depend on which others are there, so taking the first n again
    and again from what survived gives the same n as taking them once from all.

    Args:
        infos: Checkpoints, oldest first.
        metric: Name of the metric.
        mode: Which direction is better.
        ties: Of equal values, whether the earlier one comes first or the later one.
    """
    scored: list[tuple[float, CheckpointInfo]] = []
    unscored: list[CheckpointInfo] = []
    for info in reversed(infos) if ties == "newest" else infos:
        value = finite(info.metrics, metric)
        if value is None:
            unscored.append(info)
        else:
            scored.append((value if mode == "min" else -value, info))
    # Stable, so equal values stay in the order of the loop.
    scored.sort(key=lambda pair: pair[0])
    if ties == "incumbent":
        unscored.reverse()
    return [info for _, info in scored] + unscored


def best_key(metric: str, *, mode: Mode, ties: Ties) -> Callable[[CheckpointInfo], Rank]:
    """Returns what `best_first` sorts by, for one checkpoint at a time; arguments as there."""

    def key(info: CheckpointInfo) -> Rank:
        value = finite(info.metrics, metric)
        if value is None:
            return (True, 0.0, *newest_order(info))
        order = commit_order(info) if ties == "incumbent" else newest_order(info)
        return (False, value if mode == "min" else -value, *order)

    return key


def newest_order(info: CheckpointInfo) -> tuple[float, int, Backwards]:
    """Returns what checkpoints are sorted by to have the newest first."""
    return -info.created_at, -info.step, Backwards(info.id)


@dataclass(frozen=True, slots=True)
class Backwards:
    """A text that sorts the other way round."""

    text: str

    def __lt__(self, other: Backwards) -> bool:
        return other.text < self.text


#: Whether there is no value, the value with the better one lower, and what breaks ties.
Rank = tuple[bool, float, float, int, str | Backwards]


def best_of(infos: Iterable[CheckpointInfo], metric: str, *, mode: Mode) -> CheckpointInfo | None:
    """Returns the best restorable checkpoint, or None where none has a finite value.

    Restorable: full or weights, and not damaged. Of equals the earlier one is best.
    """
    able = [
        info
        for info in oldest_first(infos)
        if info.kind in {"full", "weights"}
        and not info.damaged
        and finite(info.metrics, metric) is not None
    ]
    return best_first(able, metric, mode=mode)[0] if able else None
