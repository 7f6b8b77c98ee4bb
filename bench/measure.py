"""Interleaved repeats of several ways to do one thing."""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

#: What one repeat yields: figure ("blocked", "durable", "warm", ...) to seconds.
Figures = Mapping[str, float]


class SkippedError(Exception):
    """A way that is not measured here, with the reason."""


class Way(Protocol):
    """One way to do a thing.

    Attributes:
        name: What the tables call it.
        limit: Whether it is the machine's limit and no product.
    """

    name: str
    limit: bool

    def check(self) -> None:
        """Does it once, and raises unless what came out is right to the bit; warms up, too."""

    def once(self) -> Figures:
        """Does it once more and returns how long it took."""

    def close(self) -> None:
        """Gives everything back."""


@dataclass(frozen=True, slots=True)
class Samples:
    """What a way's repeats came to.

    Attributes:
        name: The way's.
        limit: Whether it is the machine's limit.
        values: In the unit of the table that it stands in.
        error: Why there are none, or not all; "" where all went well.
        note: What a reader must know of it.
    """

    name: str
    limit: bool
    values: tuple[float, ...]
    error: str = ""
    note: str = ""

    @property
    def median(self) -> float | None:
        """The middle of what was measured."""
        return statistics.median(self.values) if self.values else None


@dataclass(slots=True)
class _Progress:
    way: Way | None
    taken: dict[str, list[float]]
    error: str = ""


def reason(error: Exception) -> str:
    """Returns why a way is missing, in one line."""
    first = (str(error).strip() or "no message").splitlines()[0]
    if isinstance(error, SkippedError):
        return first
    return f"failed: {type(error).__name__}: {first[:160]}"


def interleave(
    makers: Mapping[str, Callable[[], Way]],
    *,
    repeats: int,
    before: Callable[[], object] = lambda: None,
    tick: Callable[[str], object] = lambda _: None,
) -> dict[str, tuple[Samples, ...]]:
    """Runs each way in turn, so that a slow minute of the machine is shared by all.

    Args:
        makers: Name to what makes the way. One that fails says so, and the others go on.
        repeats: Counted rounds, after one check of each way that is not counted.
        before: Called before each repeat, outside of what counts.
        tick: Called with a way's name after each repeat.

    Returns:
        Figure to what each way came to, in the order of `makers`; a way that has no such figure
        is left out of it, one that failed stands in all.
    """
    states: dict[str, _Progress] = {}
    for name, make in makers.items():
        state = states[name] = _Progress(None, {})
        try:
            state.way = make()
            state.way.check()
        except Exception as error:  # noqa: BLE001 - a peer's failure is a result
            state.error = reason(error)
        tick(name)
    for _ in range(repeats):
        for name, state in states.items():
            if state.way is not None and not state.error:
                _once(state, before)
            tick(name)
    for state in states.values():
        if state.way is not None:
            try:
                state.way.close()
            except Exception as error:  # noqa: BLE001 - as above
                state.error = state.error or f"on closing: {reason(error)}"
    figures = list(dict.fromkeys(figure for state in states.values() for figure in state.taken))
    return {figure: _samples(states, figure) for figure in figures}


def _once(state: _Progress, before: Callable[[], object]) -> None:
    assert state.way is not None
    gc.collect()
    before()
    try:
        for figure, seconds in state.way.once().items():
            state.taken.setdefault(figure, []).append(seconds)
    except Exception as error:  # noqa: BLE001 - as above
        state.error = reason(error)


def _samples(states: Mapping[str, _Progress], figure: str) -> tuple[Samples, ...]:
    return tuple(
        Samples(
            name,
            bool(state.way and state.way.limit),
            tuple(state.taken.get(figure, ())),
            state.error,
            getattr(state.way, "note", ""),
        )
        for name, state in states.items()
        if figure in state.taken or state.error
    )


def timed(work: Callable[[], object]) -> float:
    """Returns how long a call takes, in seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def percentile(values: Sequence[float], share: float) -> float:
    """Returns the value that so many (0 to 1) of the values are not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def settle_disk(_: Iterable[object] = ()) -> None:
    """Writes out what earlier repeats left in the page cache."""
    os.sync()
