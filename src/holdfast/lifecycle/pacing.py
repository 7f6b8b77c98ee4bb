"""A bound on how fast bytes are read, so that a verification leaves a disk to those who work."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

#: What was left unread for up to so long may be made up for at once.
_BURST_S: Final = 0.1


class Pacer:
    """Holds reads back so that their average rate stays within a bound.

    Each read is paid for by time: it may begin when the reads before it are paid. So between any
    two moments at most the rate times what lies between them is begun, and besides one read and
    what `_BURST_S` allows.

    Args:
        nbytes_per_s: The bound, above 0.
        clock: Seconds that never run backwards.
        sleep: Waits so many seconds.
    """

    def __init__(
        self,
        nbytes_per_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._nbytes_per_s = nbytes_per_s
        self._clock = clock
        self._sleep = sleep
        self._paid_at = clock()

    def take(self, nbytes: int) -> None:
        """Waits until a read of so many bytes may begin."""
        now = self._clock()
        # Time in which nothing was read is no credit, but for a short one.
        begin = max(self._paid_at, now - _BURST_S)
        self._paid_at = begin + nbytes / self._nbytes_per_s
        if begin > now:
            self._sleep(begin - now)
