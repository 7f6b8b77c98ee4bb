"""Files that are open: to read at offsets, and to append to."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
from collections.abc import Callable, Iterator, Sequence
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


@contextlib.contextmanager
def listed(path: str) -> Iterator[None]:
    """Turns what the system says of a folder that cannot be listed into errors of ours.

    Raises:
        FileNotFoundError: It is not there.
        IntegrityError: The medium could not read it.
        HoldfastError: It cannot be listed now: no permission, too many open files.
    """
    try:
        yield
    except OSError as error:
        raise opening_error(error, path or ".") from error


def require_regular(fd: int, path: str) -> int:
    """Returns the length in bytes of an open file; raises `FormatError` where it is no file."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise FormatError(f"{path} is not a regular file", hint="remove it")
    return status.st_size


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


class PacedFile(OpenFile):
    """An open file that is read slowly, and leaves the page cache to those who need it.

    What it had to fetch from the medium is dropped from the page cache again; what was there
    already, for others to read, stays. Where the system cannot tell the two apart nothing is
    dropped. For one thread.

    Args:
        file: The file; it is closed by whoever opened it.
        pace: Called before each read with its bytes; it may wait.
    """

    def __init__(self, file: OpenFile, pace: Callable[[int], None]) -> None:
        super().__init__(file._fd, file.path, file.nbytes)
        self._pace = pace
        self._tells = hasattr(os, "RWF_NOWAIT") and hasattr(os, "posix_fadvise")
        if self._tells:
            # No reading ahead: what it fetches could not be told from what was there before.
            with contextlib.suppress(OSError):
                os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_RANDOM)

    def read_into_each(self, offset: int, buffers: Sequence[memoryview]) -> None:
        """Does what `OpenFile.read_into_each` does, after waiting for its turn."""
        self._pace(sum(len(view) for view in buffers))
        super().read_into_each(offset, buffers)

    def expect(self, offset: int, nbytes: int) -> None:
        """Does nothing: reading ahead would run ahead of the pace."""

    def _read(self, offset: int, buffers: Sequence[memoryview]) -> int:
        cached = self._read_cached(offset, buffers) if self._tells else 0
        if cached:
            return cached
        count = super()._read(offset, buffers)
        if self._tells:
            # Whole pages only can be dropped; the next read fetches the last one again.
            begin = offset - offset % mmap.PAGESIZE
            end = -(-(offset + count) // mmap.PAGESIZE) * mmap.PAGESIZE
            with contextlib.suppress(OSError):
                os.posix_fadvise(self._fd, begin, end - begin, os.POSIX_FADV_DONTNEED)
        return count

    def _read_cached(self, offset: int, buffers: Sequence[memoryview]) -> int:
        """Reads what is in the page cache at an offset; returns 0 where nothing is."""
        try:
            return os.preadv(self._fd, buffers, offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return 0
        except OSError as error:
            # A filesystem without such reads; any other failure is for the ordinary read to meet.
            self._tells = error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
            return 0
