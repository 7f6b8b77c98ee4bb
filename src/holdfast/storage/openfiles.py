"""Files that are open: to read at offsets, and to append to."""

from __future__ import annotations

import errno
import os

from holdfast.errors import FormatError, HoldfastError, IntegrityError
from holdfast.storage.posix import Posix


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
        view = buffer.cast("B")
        while len(view):
            try:
                count = os.preadv(self._fd, [view], offset)
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
            offset += count
            view = view[count:]
