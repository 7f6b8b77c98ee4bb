"""A store as it changes: read again when something happened, and found again when it was away."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

from holdfast.catalog import Watcher
from holdfast.errors import HoldfastError
from holdfast.insight.overview import Overview
from holdfast.store import Store

T = TypeVar("T")

_STORE_FILE, _RUNS = "holdfast.json", "runs"


class StoreWatch(Generic[T]):
    """Reads something from a store whenever it may have changed.

    Args:
        opener: Opens the store.
        read: Returns what is wanted.
        running: Returns the runs of it that are running: they may end without a word.

    Attributes:
        value: What was read last; None before the first time.
        problem: Why it cannot be read now; empty while it can.
    """

    def __init__(
        self,
        opener: Callable[[], Store],
        read: Callable[[Store, Overview], T],
        *,
        running: Callable[[T], Iterable[str]],
    ) -> None:
        self.value: T | None = None
        self.problem = ""
        self._opener, self._read, self._running = opener, read, running
        self._store: Store | None = None
        self._watcher: Watcher | None = None
        self._overview: Overview | None = None
        self._identity: tuple[int, ...] = ()
        self._version: str | None = None

    def first(self) -> None:
        """Reads it for the first time.

        Raises:
            HoldfastError: There is no such store or run: somebody mistyped, perhaps.
        """
        self._look()

    def look(self) -> bool:
        """Reads it again where something happened; returns whether it or the problem is news.

        A store that is away or cannot be read is a problem, and is opened again the next time.
        """
        before = self.problem
        try:
            changed = self._look()
            self.problem = ""
        except (HoldfastError, OSError) as error:
            self.problem = error.message if isinstance(error, HoldfastError) else str(error)
            self.close()
            changed = False
        return changed or self.problem != before

    def close(self) -> None:
        """Closes the store; a second call does nothing."""
        watcher, self._watcher = self._watcher, None
        store, self._store = self._store, None
        self._overview, self._version = None, None
        if watcher is not None:
            watcher.close()
        if store is not None:
            store.close()

    def _look(self) -> bool:
        if self._store is not None and _identity(self._store.path) != self._identity:
            # Another one may stand there, or none: an open file of the old one tells nothing.
            self.close()
        if self._store is None or self._watcher is None or self._overview is None:
            self._store = self._opener()
            self._identity = _identity(self._store.path)
            self._watcher = self._store.watcher()
            self._overview = Overview(self._store)
        # Asked before the reading: what comes meanwhile is met the next time.
        version = self._watcher.version()
        if (version, self._ended()) == (self._version, False):
            return False
        self.value = self._read(self._store, self._overview)
        self._version = version
        return True

    def _ended(self) -> bool:
        """Returns whether the owner of a run died, which no commit tells of."""
        if self._store is None or self.value is None:
            return False
        known = (name for name in self._running(self.value) if name in self._store)
        return any(self._store[name].status != "running" for name in known)


def _identity(path: Path) -> tuple[int, ...]:
    """Returns what tells a store from another one in its place; nothing where there is none."""
    # Some stores have no such file, and are read all the same.
    for name in (_STORE_FILE, _RUNS):
        with contextlib.suppress(OSError):
            found = (path / name).stat()
            return (found.st_ino, found.st_mtime_ns) if name == _STORE_FILE else (found.st_ino,)
    return ()
