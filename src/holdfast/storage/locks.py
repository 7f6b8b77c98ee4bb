"""One writer at a time, by a lock that the operating system releases with its owner.

The lock is `flock` on a file of its own. It belongs to the open file description, which a forked
child shares: a data loader's worker would keep a dead trainer's lock alive. So children close
their copy right after the fork.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
import weakref
from pathlib import Path

from holdfast.errors import LockedError, SaveError
from holdfast.storage.openfiles import opening_error

_POLL_S = 0.1
_opened: weakref.WeakSet[FileLock] = weakref.WeakSet()


class FileLock:
    """An exclusive lock on a file, which also says who holds it.

    Args:
        path: The lock's file; its folder exists. The file stays when the lock is released.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None
        self._held = False

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._held

    def acquire(self, *, timeout_s: float) -> None:
        """Takes the lock.

        Args:
            timeout_s: How long to wait for another holder; 0 tries once.

        Raises:
            LockedError: Another process held it all the time.
            SaveError: The lock's file cannot be opened, or the medium has no locks.
        """
        deadline = time.monotonic() + timeout_s
        while not self._held:
            try:
                holder = self._try()
            except OSError as error:
                raise SaveError(
                    f"the lock {self._path} cannot be taken: {error.strerror}",
                    hint="check the permissions of the store, and that its medium has locks",
                ) from error
            finally:
                if not self._held:
                    self.release()
            if holder is not None:
                # This process cannot wait for itself.
                mine = any(other.held and other._path == self._path for other in _opened)
                if mine or time.monotonic() >= deadline:
                    raise self._locked(holder, mine=mine)
                time.sleep(_POLL_S)

    def _try(self) -> str | None:
        """Takes the lock, or returns its holder; None, too, where its file was deleted."""
        # A symbolic link is refused: the owner's name would be written to what it leads to.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = self._fd = os.open(self._path, flags, 0o666)
        # Before it is locked: a child that is forked right now shares the descriptor.
        _opened.add(self)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return _describe(os.pread(fd, 4096, 0))
        # A run that was deleted took its lock's file along: the next one has another file.
        self._held = self._names(fd)
        if self._held:
            _sign(fd)
        return None

    def _names(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self._path))
        except FileNotFoundError:
            return False

    def _locked(self, holder: str, *, mine: bool) -> LockedError:
        what = self._path.parent.name
        if mine:
            return LockedError(
                f"{what} is open for writing in this process already",
                hint="close the other Run object first, or leave its `with` block",
                holder=holder,
            )
        return LockedError(
            f"{what} is being written by {holder}",
            hint="stop that process, or open the run with if_exists='new'",
            holder=holder,
        )

    def release(self) -> None:
        """Gives the lock up; does nothing when it is not held."""
        self._held = False
        if self._fd is not None:
            fd, self._fd = self._fd, None
            _opened.discard(self)
            os.close(fd)

    def busy(self) -> bool:
        """Returns whether another process, or another lock object, holds it now."""
        if self.held:
            return False
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                return False
            raise opening_error(error, self._path.name) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False


def _describe(content: bytes) -> str:
    try:
        owner = json.loads(content)
        return f"pid {int(owner['pid'])} on {str(owner['host'])[:64]}"
    except (ValueError, KeyError, TypeError):
        return "a process that left no name"


def _sign(fd: int) -> None:
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
    # A full disk must not shut a run out: the lock holds without a name, too.
    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(owner).encode() + b"\n", 0)


def _forget_in_child() -> None:
    for lock in list(_opened):
        lock.release()


os.register_at_fork(after_in_child=_forget_in_child)
