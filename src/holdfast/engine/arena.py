"""Memory for snapshots, kept between saves: copying into fresh pages is several times slower."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable
from typing import Final

import numpy as np

_HUGE_PAGE: Final = 2 << 20
_TOUCHED_AT_ONCE: Final = 64 << 20

Pin = Callable[[memoryview], Callable[[], None] | None]


class Arena:
    """Anonymous memory of a fixed size, in huge pages where the system has them.

    Attributes:
        view: All of it, writable; its address is a multiple of the page size.
        fitted: What its last user prepared for using it again; theirs alone.
    """

    def __init__(self, nbytes: int) -> None:
        memory = mmap.mmap(-1, arena_nbytes(nbytes), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        # Not for children: with it, the pages that a forked data loader shares would have to be
        # copied before each snapshot could write to them.
        for advice in ("MADV_HUGEPAGE", "MADV_DONTFORK", "MADV_DONTDUMP"):
            if hasattr(mmap, advice):
                memory.madvise(getattr(mmap, advice))
        self.view = memoryview(memory)
        self.fitted: object = None
        self._unpin: Callable[[], None] | None = None

    @property
    def nbytes(self) -> int:
        """Its size."""
        return len(self.view)

    def touch(self) -> None:
        """Lets the system find the pages now; the interpreter's lock is free meanwhile."""
        pages = np.frombuffer(self.view, np.uint8)
        for begin in range(0, len(pages), _TOUCHED_AT_ONCE):
            pages[begin : begin + _TOUCHED_AT_ONCE : mmap.PAGESIZE] = 0

    def pin(self, pin: Pin) -> None:
        """Locks it in place for transfers from devices, once."""
        if self._unpin is None:
            self._unpin = pin(self.view)

    def discard(self) -> None:
        """Gives it up; its memory goes when nothing refers to its view any more."""
        self.fitted = None
        if self._unpin is not None:
            self._unpin()
            self._unpin = None


class ArenaPool:
    """Arenas that are not in use.

    Args:
        keep: How many stay allocated between saves.
    """

    def __init__(self, *, keep: int = 1) -> None:
        self.keep = keep
        self._free: list[Arena] = []
        self._lock = threading.Lock()
        self._warming = threading.Lock()

    def borrow(self, nbytes: int) -> Arena:
        """Returns an arena of this size at least, a used one where there is one."""
        with self._warming:
            # One that is being made ready is waited for: two at a time would be twice the memory.
            pass
        with self._lock:
            for index, arena in enumerate(self._free):
                if _fits(arena, nbytes):
                    return self._free.pop(index)
            # The state has grown or shrunk: what does not fit now is not going to later.
            self._drop(self._free)
            self._free = []
        return Arena(nbytes)

    def give_back(self, arena: Arena) -> None:
        """Takes an arena back for the next snapshot."""
        with self._lock:
            self._free.append(arena)
            self._drop(self._free[: -self.keep] if self.keep else self._free)
            self._free = self._free[-self.keep :] if self.keep else []

    def warm_up(self, nbytes: int) -> None:
        """Makes an arena of this size ready, unless there is one that fits."""
        with self._warming:
            with self._lock:
                if any(_fits(arena, nbytes) for arena in self._free):
                    return
                self._drop(self._free)
                self._free = []
            arena = Arena(nbytes)
            arena.touch()
            self.give_back(arena)

    def clear(self) -> None:
        """Gives all memory up that is not in use."""
        with self._lock:
            self._drop(self._free)
            self._free = []

    @staticmethod
    def _drop(arenas: list[Arena]) -> None:
        for arena in arenas:
            arena.discard()


def arena_nbytes(nbytes: int) -> int:
    """Returns the size of an arena for so many bytes: whole huge pages, one at least."""
    return max(-(-nbytes // _HUGE_PAGE) * _HUGE_PAGE, _HUGE_PAGE)


def _fits(arena: Arena, nbytes: int) -> bool:
    # One that is far too large is let go: the state has shrunk.
    return nbytes <= arena.nbytes <= 2 * nbytes + _HUGE_PAGE
