"""Interleaved repeats of several ways to do one thing."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one way to do a thing."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def spread(self) -> tuple[float, float]:
        return min(self.samples), max(self.samples)


def interleave(ways: Mapping[str, Callable[[], float]], *, repeats: int) -> dict[str, Timing]:
    """Runs each way in turn, so that a slow minute of the machine is shared by all.

    Args:
        ways: Name to a function that returns the seconds that count.
        repeats: Counted rounds; one round before them is not.
    """
    samples: dict[str, list[float]] = {name: [] for name in ways}
    for round_number in range(repeats + 1):
        for name, way in ways.items():
            gc.collect()
            seconds = way()
            if round_number:
                samples[name].append(seconds)
    return {name: Timing(tuple(values)) for name, values in samples.items()}


def timed(work: Callable[[], object]) -> float:
    """Returns how long a call takes, in seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
