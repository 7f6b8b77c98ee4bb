"""Copies that are taken beside the training, and whether they are of one moment.

Between two optimizer steps a training reads parameters and optimizer state and does not change
them, so they can be copied while it goes on. Whoever is about to change them waits first (`join`).
What is changed all the same is found by the counters that a framework keeps of changes in place:
they were noted before the copy, and are compared when it is complete. A counter is raised when a
change is over, not when it begins; the comparison therefore counts only once the training thread
has been seen to go on since the copy was complete, or to stand still for longer than any change
takes.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from holdfast.frameworks import Leaf
from holdfast.tree import Transfers

#: How often the training thread is looked at.
_LOOK_S: Final = 0.01
#: A thread that stands still for so long, and for as long as it takes to change the largest array
#: this slowly, is not in the middle of a change: it sleeps, or waits for something.
_STILL_S: Final = 1.0
_SLOWEST_NBYTES_A_S: Final = 250e6
#: Threads leave most of the memory's speed, and of the cores, to the training.
_CORES_A_THREAD: Final = 4
_MOST_THREADS: Final = 4

Pair = tuple[memoryview, memoryview]


class Overlap:
    """The late copies of one snapshot.

    Args:
        pairs: Buffers of the snapshot, and the live memory that is copied into each.
        transfers: Copies from devices that are under way; nothing waits for them yet.
        leaves: The live arrays of both.
    """

    def __init__(self, pairs: Sequence[Pair], transfers: Transfers, leaves: Sequence[Leaf]) -> None:
        self._transfers = transfers
        self._leaves: Sequence[Leaf] = leaves
        self._versions = [leaf.version for leaf in leaves]
        self._largest = max((leaf.nbytes for leaf in leaves), default=0)
        self._trainer = threading.get_ident()
        self._left = iter(pairs)
        self._lock = threading.Lock()
        self._joining = threading.Lock()
        self._copied = threading.Event()
        self._judged = threading.Event()
        self._over = threading.Event()
        self._whole = False
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name="holdfast-overlap", daemon=True).start()

    @property
    def over(self) -> bool:
        """Whether the live arrays may change, and the snapshot is whole or has failed."""
        return self._over.is_set()

    def join(self, retake: Callable[[], None]) -> None:
        """Waits until the live arrays may change; called by whoever is about to change them.

        Args:
            retake: Takes the snapshot again at once, where an array has changed too early. What it
                raises is raised by `wait`.
        """
        with self._joining:
            if self._over.is_set():
                return
            self._copied.wait()
            self._transfers.fence()
            # Whoever is about to change the arrays is not changing them now.
            self._judge()
            try:
                if not self._whole and self._error is None:
                    retake()
            except Exception as error:  # noqa: BLE001 - raised by `wait`
                self._error = error
            except BaseException:
                # Ctrl-C belongs to the loop; the save must not become a checkpoint.
                self._error = RuntimeError("interrupted while the state was copied again")
                raise
            finally:
                self._leaves = ()
                self._over.set()

    def end(self) -> None:
        """Waits until nothing is written into the snapshot's memory any more."""
        self._copied.wait()
        self._transfers.wait()

    def wait(self) -> None:
        """Waits until the snapshot is whole; for the thread that writes it.

        Raises:
            BaseException: A copy failed, or taking it again did.
        """
        self._judged.wait()
        if self._error is None and self._whole:
            return
        self._over.wait()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        threads = [
            threading.Thread(target=self._copy, name="holdfast-overlap", daemon=True)
            for _ in range(_thread_count() - 1)
        ]
        for thread in threads:
            thread.start()
        self._copy()
        for thread in threads:
            thread.join()
        self._copied.set()
        self._transfers.wait()
        before = _place_of(self._trainer)
        looks = int((_STILL_S + self._largest / _SLOWEST_NBYTES_A_S) / _LOOK_S)
        while not self._judged.wait(_LOOK_S):
            now = _place_of(self._trainer)
            looks -= 1
            if now is None or now != before or looks <= 0:
                self._judge()

    def _copy(self) -> None:
        try:
            while (pair := self._next()) is not None:
                target, source = pair
                np.copyto(np.frombuffer(target, np.uint8), np.frombuffer(source, np.uint8))
        except BaseException as error:  # noqa: BLE001 - raised by `wait`
            self._error = error

    def _next(self) -> Pair | None:
        with self._lock:
            return next(self._left, None)

    def _judge(self) -> None:
        with self._lock:
            if not self._judged.is_set():
                self._whole = self._versions == [leaf.version for leaf in self._leaves]
                self._judged.set()


def _thread_count() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(_MOST_THREADS, (cores or 1) // _CORES_A_THREAD))


def _place_of(thread: int) -> object:
    """Returns where a thread stands: another answer means that it went on; None for a dead one."""
    frame = sys._current_frames().get(thread)
    return None if frame is None else (id(frame), frame.f_lasti)
