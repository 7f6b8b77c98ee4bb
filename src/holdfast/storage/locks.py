"""One writer at a time, by a lock that the operating system releases with its owner.

The lock is `flock` on a file of its own, on a descriptor that no forked child keeps.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
import weakref
from dataclasses import dataclass
from pathlib import Path

from holdfast.errors import LockedError, SaveError
from holdfast.storage.openfiles import opening_error, require_regular
from holdfast.storage.owners import Owner, describe, explain
from holdfast.storage.unshared import close_unshared, open_unshared

_log = logging.getLogger("holdfast")

_POLL_S = 0.1
_CONTENT_NBYTES = 4096
_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


class FolderGoneError(SaveError):
    """The folder of a lock's file is not there (any more), nor what the lock guards."""


class FileLock:
    """An exclusive lock on a file, which also says who holds it.

    Args:
        path: The lock's file; its folder exists. The file stays when the lock is released.

    Attributes:
        predecessor: Who held it last, as far as its file tells, once it is held.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None
        self._pid = os.getpid()
        self.predecessor: Owner | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock; a forked child's copy of it does not."""
        return self._fd is not None and self._pid == os.getpid()

    def acquire(self, *, timeout_s: float) -> None:
        """Takes the lock.

        Args:
            timeout_s: How long to wait for another holder; 0 tries once.

        Raises:
            LockedError: Another process held it all the time, or this one does by another object.
            FolderGoneError: The folder of its file is not there.
            SaveError: The lock's file cannot be opened, or the medium has no locks.
            FormatError: It is no file.
        """
        deadline = time.monotonic() + timeout_s
        waiting = False
        while not self.held:
            try:
                refused = self._try()
            except FileNotFoundError as error:
                raise FolderGoneError(
                    f"the folder {self._path.parent} is not there",
                    hint="nothing is to be locked in it",
                ) from error
            except OSError as error:
                raise SaveError(
                    f"the lock {self._path} cannot be taken: {error.strerror}",
                    hint="check the permissions of the store, and that its medium has locks",
                ) from error
            if refused is None:
                continue
            if refused.mine or time.monotonic() >= deadline:
                raise self._locked(refused)
            if not waiting:
                waiting = True
                holder = explain(refused.owner)[0]
                what = self._path.parent.name
                _log.info("%s is being written by %s: waiting %g s", what, holder, timeout_s)
            time.sleep(_POLL_S)

    def _try(self) -> _Refused | None:
        """Takes the lock, or returns who has it; None, too, where its file was deleted."""
        # A symbolic link is refused: the owner's name would be written to what it leads to.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = open_unshared(lambda: os.open(self._path, flags, 0o666))
        try:
            require_regular(fd, str(self._path))
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A run that was deleted took its lock's file along: the next one has another file.
            if self._names(fd):
                self.predecessor = Owner.parse(os.pread(fd, _CONTENT_NBYTES, 0))
                _sign(fd)
                self._fd, fd, self._pid = fd, -1, os.getpid()
                _held.add(self)
        except BlockingIOError:
            # By its file, not by its path: a store may be reached by several.
            mine = any(lock.held and lock._is(fd) for lock in list(_held))
            return _Refused(Owner.parse(os.pread(fd, _CONTENT_NBYTES, 0)), mine=mine)
        finally:
            if fd >= 0:
                close_unshared(fd)
        return None

    def _is(self, fd: int) -> bool:
        """Returns whether a descriptor is of the file that this object has locked."""
        # It may be given up by another thread meanwhile.
        with contextlib.suppress(OSError):
            return self._fd is not None and os.path.samestat(os.fstat(fd), os.fstat(self._fd))
        return False

    def _names(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self._path))
        except FileNotFoundError:
            return False

    def _locked(self, refused: _Refused) -> LockedError:
        what = self._path.parent.name
        if refused.mine:
            return LockedError(
                f"{what} is open for writing in this process already",
                hint="close the other Run object first, or leave its `with` block",
                holder=describe(refused.owner),
            )
        holder, hint = explain(refused.owner)
        return LockedError(
            f"{what} is being written by {holder}", hint=hint, holder=describe(refused.owner)
        )

    def release(self) -> None:
        """Gives the lock up; does nothing when it is not held."""
        fd, mine = self._fd, self.held
        self._fd = None
        _held.discard(self)
        # The number is another file's in a forked child, which closed its copy.
        if fd is not None and mine:
            close_unshared(fd)

    def busy(self) -> bool:
        """Returns whether another process, or another lock object, holds it now.

        Raises:
            FormatError: Its file is a symbolic link, or no file.
            HoldfastError: It cannot be opened now.
        """
        if self.held:
            return False
        # Without blocking: a pipe would wait for a writer.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            fd = open_unshared(lambda: os.open(self._path, flags))
        except OSError as error:
            opened = opening_error(error, str(self._path))
            if isinstance(opened, FileNotFoundError):
                return False
            raise opened from error
        try:
            require_regular(fd, str(self._path))
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            close_unshared(fd)
        return False


@dataclass(frozen=True, slots=True)
class _Refused:
    """Why a lock was not given.

    Attributes:
        owner: Who has it, as far as its file tells.
        mine: Whether this process has it.
    """

    owner: Owner | None
    mine: bool


def _sign(fd: int) -> None:
    # A full disk must not shut a run out: the lock holds without a name, too.
    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, Owner.here().encode(), 0)
