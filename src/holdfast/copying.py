"""The copy of a state that each save starts with: how much memory it may take, and when it ends."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from holdfast.announcements import nbytes_text
from holdfast.engine.arena import arena_nbytes
from holdfast.engine.background import Backlog
from holdfast.engine.layout import Arrangement, Late
from holdfast.engine.overlap import Overlap
from holdfast.engine.snapshot import Snapshot, Snapshots, live
from holdfast.tree import Flat

_log = logging.getLogger("holdfast")

#: Smaller states are copied into fresh memory in no time.
_WARMED_NBYTES: Final = 16 << 20

Capture = Callable[[], Mapping[str, Flat]]


class Copier:
    """Takes a run's snapshots.

    Args:
        run: The run, for messages.
        memory: Bytes for all snapshots that exist at a time; None for one snapshot, or two where
            a newer one may replace an older one. A state that is larger is written from where it
            lies, while training waits.
        joins_s: Gets how long each `join` took, in seconds.
    """

    def __init__(self, run: str, memory: int | None, joins_s: deque[float]) -> None:
        self._run = run
        self._memory = memory
        self._joins_s = joins_s
        self._snapshots = Snapshots()
        self._nbytes = 0
        self._joining: tuple[tuple[Overlap, Callable[[], None]], ...] = ()
        self._told: set[str] = set()
        self.arrangement: Arrangement = {}

    def warm_up(self, nbytes: int) -> None:
        """Makes memory for a snapshot of this size ready, behind the training."""
        self._nbytes = nbytes
        if nbytes < _WARMED_NBYTES or self.is_too_large(nbytes):
            return
        threading.Thread(
            target=self._snapshots.pool.warm_up, args=(nbytes,), name="holdfast-memory", daemon=True
        ).start()

    def slots(self, backlog: Backlog) -> int:
        """Returns how many snapshots may exist at a time, by the size of the last one."""
        if self._memory is not None:
            slots = max(1, self._memory // arena_nbytes(self._nbytes))
        else:
            slots = 2 if backlog == "latest" else 1
        self._snapshots.pool.keep = slots
        return slots

    def is_too_large(self, nbytes: int) -> bool:
        """Whether a state of this size is written from where it lies."""
        return self._memory is not None and nbytes > self._memory

    def arrange(self, arrangement: Arrangement) -> None:
        """Notes how the shards of the last checkpoint hold their arrays."""
        # The same object as long as nothing changes: what is laid out by it can be used again.
        if arrangement != self.arrangement:
            self.arrangement = arrangement

    def take(self, capture: Capture, *, late: Mapping[str, Late], step: int) -> Snapshot:
        """Returns a snapshot of the state.

        Args:
            capture: Flattens the state as it is now.
            late: Item name to which of its arrays are copied beside the training; `join` must be
                called before they change.
            step: For messages.

        Returns:
            The snapshot. If the state `is_too_large` it is no copy: nothing may change until it
            is written.

        Raises:
            ConfigError, TreeError: The state cannot be stored.
        """
        flats = capture()
        self._nbytes = sum(flat.nbytes for flat in flats.values())
        if self.is_too_large(self._nbytes):
            self._tell(
                "in place",
                "%s: %s are more than memory= allows a snapshot: training waits for each save",
                nbytes_text(self._nbytes),
            )
            return live(flats)
        snapshot = self._snapshots.take(flats, self.arrangement, late=late)
        if snapshot.overlap is not None:

            def again() -> None:
                self._take_again(snapshot, capture, step)

            self._joining = (*self._joining, (snapshot.overlap, again))
        return snapshot

    def join(self) -> None:
        """Waits until what is copied beside the training may change.

        Called before each optimizer step, and wherever the training thread waits for a save.
        """
        joining = self._joining
        if not joining:
            return
        began = time.perf_counter()
        for overlap, again in joining:
            overlap.join(again)
        self._joining = tuple(one for one in self._joining if not one[0].over)
        self._joins_s.append(time.perf_counter() - began)

    def close(self) -> None:
        """Gives the memory back."""
        self._snapshots.pool.clear()

    def _take_again(self, snapshot: Snapshot, capture: Capture, step: int) -> None:
        if snapshot.released:
            return
        self._tell(
            "torn",
            "%s: the state was written to after step %d and before the next optimizer step, so it "
            "is copied again, at once; write before run.step(), or use snapshot='copy'",
            step,
        )
        snapshot.release()
        snapshot.adopt(self._snapshots.take(capture(), self.arrangement))

    def _tell(self, what: str, message: str, *arguments: object) -> None:
        level = logging.DEBUG if what in self._told else logging.WARNING
        self._told.add(what)
        _log.log(level, message, self._run, *arguments)
