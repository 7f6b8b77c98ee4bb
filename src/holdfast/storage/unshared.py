"""Files with a `flock` that no forked child keeps.

A `flock` belongs to the open file description, which a forked child shares: a data loader's worker
would keep the lock of a trainer that died, and even one that was given up, where it was forked
while it was held. So a descriptor is known here before it is locked, children close their copies
right after the fork, and the owner unlocks before it closes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator

from holdfast.storage.posix import Posix


class _Descriptors:
    """The descriptors of this process that its children close."""

    def __init__(self) -> None:
        self.open: set[int] = set()
        self._under_way = 0
        self._done = 0

    @property
    def forks(self) -> tuple[int, int]:
        """Forks under way in other threads, and those that are over."""
        return self._under_way, self._done

    def before(self) -> None:
        self._under_way += 1

    def after_in_parent(self) -> None:
        self._under_way -= 1
        self._done += 1

    def after_in_child(self) -> None:
        self._under_way = 0
        for fd in self.open:
            with contextlib.suppress(OSError):
                os.close(fd)
        self.open.clear()


_descriptors = _Descriptors()
os.register_at_fork(
    before=_descriptors.before,
    after_in_parent=_descriptors.after_in_parent,
    after_in_child=_descriptors.after_in_child,
)


def open_unshared(opening: Callable[[], int]) -> int:
    """Opens a file whose descriptor forked children close.

    Args:
        opening: Opens it and returns the descriptor; called again where another thread forked
            meanwhile, for that child has a copy that it does not know of. No fork is held up by
            this: on a medium that hangs, it would hang, too.

    Raises:
        OSError: As `opening` does.
    """
    while True:
        before = _descriptors.forks
        fd = opening()
        _descriptors.open.add(fd)
        if before[0] == 0 and _descriptors.forks == before:
            return fd
        close_unshared(fd)
        time.sleep(0)


def close_unshared(fd: int, closing: Callable[[int], None] = os.close) -> None:
    """Gives up the lock of such a descriptor, and closes it.

    Args:
        fd: Of `open_unshared`, in this process.
        closing: Closes it.
    """
    # From here on a copy is harmless: of a child forked right now, or behind Python's back.
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_UN)
    # Before it is closed: its number may be another file's right after.
    _descriptors.open.discard(fd)
    closing(fd)


@contextlib.contextmanager
def appending_alone(posix: Posix, path: str, mode: int) -> Iterator[int]:
    """Opens a file for appending, locked; yields its descriptor.

    Args:
        posix: The system calls.
        path: The file; it is made where it is missing.
        mode: Its permissions then.

    Raises:
        OSError: It cannot be opened, locked or closed.
    """
    fd = _open_locked(posix, path, mode)
    try:
        yield fd
    finally:
        close_unshared(fd, posix.close)


def _open_locked(posix: Posix, path: str, mode: int) -> int:
    while True:
        fd = open_unshared(lambda: posix.open_append(path, mode))
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), os.stat(path)):
                    return fd
        except BaseException:
            close_unshared(fd, posix.close)
            raise
        # A repair has put another file in its place while this one was waited for: what is
        # appended here would be lost.
        close_unshared(fd, posix.close)
