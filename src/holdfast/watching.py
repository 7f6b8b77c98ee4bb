"""How a run's saves go: what became of them, how long they take, and whether one is stuck."""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from holdfast.errors import HoldfastError, SaveError

_RECENT: Final = 32
#: A save that has not moved for so long is told of.
SLOW_S: Final = 30.0
#: And after so long nothing waits for it any more: the medium may never answer.
STUCK_S: Final = 300.0


@dataclass(slots=True)
class Counters:
    """What became of a run's saves in this process.

    Attributes:
        saved: Durable ones.
        failed: Those that did not become durable.
        dropped: Those that back-pressure left out.
        last_error: Why the last failed one failed.
        unrecovered: Whether no save succeeded since the last failure.
        stalls_s: How long recent saves held up training, in seconds.
        joins_s: How long recent optimizer steps waited for copies taken beside the training.
        writes_s: How long recent saves took from then until durable, in seconds.
    """

    saved: int = 0
    failed: int = 0
    dropped: int = 0
    last_error: HoldfastError | None = None
    unrecovered: bool = False
    stalls_s: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    joins_s: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    writes_s: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))

    @property
    def stall_s(self) -> float | None:
        """Median of the recent stalls."""
        return statistics.median(self.stalls_s) if self.stalls_s else None

    @property
    def join_s(self) -> float | None:
        """Median of the recent waits before optimizer steps."""
        return statistics.median(self.joins_s) if self.joins_s else None

    @property
    def write_s(self) -> float | None:
        """Median of the recent times until durable."""
        return statistics.median(self.writes_s) if self.writes_s else None


class Timing:
    """How long one save takes: two threads know a part of it each, in any order.

    Args:
        tell: Told the seconds that training was held up and those until it was durable, once
            both are known.
    """

    def __init__(self, tell: Callable[[float, float], object]) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._stall_s: float | None = None
        self._write_s: float | None = None

    def stalled(self, seconds: float) -> None:
        """Takes down how long training was held up."""
        with self._lock:
            self._stall_s = seconds
            self._settle()

    def wrote(self, seconds: float) -> None:
        """Takes down how long it took from then until it was durable."""
        with self._lock:
            self._write_s = seconds
            self._settle()

    def _settle(self) -> None:
        if self._stall_s is not None and self._write_s is not None:
            self._tell(self._stall_s, self._write_s)


class SaveWatch:
    """The save under way: what it does, and since when.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._step: int | None = None
        self._phase = ""
        self._written = self._nbytes = 0
        self._began = self._moved = 0.0
        self._told = False

    def queue(self, step: int, nbytes: int) -> None:
        """Notes that a save is about to begin, unless one is under way."""
        if self._step is None:
            self.begin(step, nbytes, phase="queued")

    def begin(self, step: int, nbytes: int, *, phase: str = "starting") -> None:
        """Notes that the save of a step begins, or what follows it."""
        with self._lock:
            self._nbytes, self._written = nbytes, 0
            self._phase = phase
            self._began = self._moved = self._clock()
            self._told = False
            # Last: others look at the time once there is a step.
            self._step = step

    def move(self, phase: str, nbytes: int = 0) -> None:
        """Notes that it got on: what it does now, and how many bytes more are written."""
        with self._lock:
            self._phase = phase
            self._written += nbytes
            self._moved = self._clock()
            self._told = False

    def end(self) -> None:
        """Notes that it is over."""
        with self._lock:
            self._step = None

    @property
    def stuck(self) -> bool:
        """Whether it has not moved for so long that nothing should wait for it."""
        return self.still_s >= STUCK_S

    @property
    def still_s(self) -> float:
        """Seconds since it last moved; 0 while nothing is under way."""
        return 0.0 if self._step is None else self._clock() - self._moved

    def slow(self) -> str:
        """Returns what to warn of: once, when the save has not moved for a while; or nothing."""
        # Without the lock: asked at every step.
        if self._step is None or self._told or self._clock() - self._moved < SLOW_S:
            return ""
        self._told = True
        return self.describe()

    def describe(self) -> str:
        """Returns a sentence about the save under way."""
        with self._lock:
            return (
                f"the save of step {self._step} has made no progress for "
                f"{self._clock() - self._moved:.0f} s ({self._phase}, {self._written} of "
                f"{self._nbytes} bytes)"
            )

    def error(self) -> SaveError:
        """Returns what is raised instead of waiting any longer."""
        return SaveError(
            self.describe(),
            hint="the medium does not answer: check it (dmesg, df); what was saved before is safe",
        )

    def stats(self) -> dict[str, Any] | None:
        """Returns the save under way for `Run.stats`; None where there is none."""
        with self._lock:
            if self._step is None:
                return None
            now = self._clock()
            return {
                "step": self._step,
                "phase": self._phase,
                "written_nbytes": self._written,
                "nbytes": self._nbytes,
                "for_s": now - self._began,
                "still_s": now - self._moved,
            }
