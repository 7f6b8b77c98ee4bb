"""Files that are open: to read at offsets, and to append to."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Sequence
from typing import Final

from holdfast.errors import FormatError, HoldfastError, IntegrityError
from holdfast.storage.posix import Posix

#: Buffers that one system call fills at most (Linux allows 1024).
MAX_BUFFERS: Final = 512
_HINT_NBYTES: Final = 1 << 20


def opening_error(error: OSError, path: str) -> Exception:
    """Returns what to raise when a file could not be opened for reading."""
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    if error.errno == errno.ELOOP:
        return FormatError(f"{path} is a symbolic link", hint="Holdfast never makes one: remove it")
    if error.errno in (errno.EIO, errno.EUCLEAN):
        return IntegrityError(
            f"{path} cannot be opened: {error.strerror}",
            hint="the medium is failing: copy what still reads to another one",
            path=path,
        )
    return HoldfastError(
        f"{path} cannot be opened: {error.strerror}", hint="check its permissions, and ulimit -n"
    )


def open_alone(posix: Posix, path: str) -> int:
    """Opens a file for appending and takes its lock, waiting for other processes' appends.

    Raises:
        OSError: As the system calls did.
    """
    while True:
        fd = posix.open_append(path, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), os.stat(path)):
                    return fd
        except BaseException:
            posix.close(fd)
            raise
        # A repair has put another file in its place while this one was waited for: what is
        # appended here would be lost.
        posix.close(fd)


class Appender:
    """An open file to append to, with the file's lock held."""

    def __init__(self, posix: Posix, fd: int) -> None:
        self._posix = posix
        self._fd = fd

    @property
    def nbytes(self) -> int:
        """The file's length now."""
        return os.fstat(self._fd).st_size

    def tail(self, nbytes: int) -> bytes:
        """Returns up to the last `nbytes` bytes."""
        start = max(0, self.nbytes - nbytes)
        return os.pread(self._fd, nbytes, start)

    def append(self, data: bytes, *, durable: bool) -> None:
        """Appends bytes; with `durable` they are on the medium on return."""
        self._posix.write(self._fd, [data])
        if durable:
            self._posix.fsync(self._fd)


class OpenFile:
    """A file open for reading at offsets; several threads may read at once."""

    def __init__(self, fd: int, path: str, nbytes: int) -> None:
        self._fd = fd
        self.path = path
        self.nbytes = nbytes

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fills a writable buffer with the bytes at an offset.

        Raises:
            IntegrityError: The file ends before the buffer is full, or cannot be read.
        """
        self.read_into_each(offset, (buffer.cast("B"),))

    def read_into_each(self, offset: int, buffers: Sequence[memoryview]) -> None:
        """Fills buffers with bytes that follow one another in the file, in one call where it can.

        Args:
            offset: Where the first buffer's bytes begin.
            buffers: Writable views of single bytes, at most `MAX_BUFFERS` of them.

        Raises:
            IntegrityError: The file ends before they are full, or cannot be read.
        """
        left = [view for view in buffers if len(view)]
        while left:
            count = self._read(offset, left)
            offset += count
            # A read may end early: a signal, the 2 GiB that one call moves at most.
            while left and count >= len(left[0]):
                count -= len(left.pop(0))
            if count:
                left[0] = left[0][count:]

    def _read(self, offset: int, buffers: Sequence[memoryview]) -> int:
        try:
            count = os.preadv(self._fd, buffers, offset)
        except OSError as error:
            raise IntegrityError(
                f"{self.path} cannot be read at byte {offset}: {error.strerror}",
                hint="the medium is failing: copy what still reads to another one",
                path=self.path,
            ) from error
        if count == 0:
            raise IntegrityError(
                f"{self.path} ends at byte {offset}, before its content does",
                hint="the file was truncated: use another checkpoint or a mirror",
                path=self.path,
            )
        return count

    def expect(self, offset: int, nbytes: int) -> None:
        """Tells the system what is going to be read, so that the medium works ahead.

        A hint: nothing waits, and a system that has no use for it ignores it.
        """
        if not hasattr(os, "posix_fadvise"):
            return
        # The kernel takes no more than its own largest transfer from one such call.
        for begin in range(offset, offset + nbytes, _HINT_NBYTES):
            length = min(_HINT_NBYTES, offset + nbytes - begin)
            with contextlib.suppress(OSError):
                os.posix_fadvise(self._fd, begin, length, os.POSIX_FADV_WILLNEED)
