"""The system calls that a commit is made of, one method each.

Everything that changes a store passes through here, so that a test can record the calls, fail
them, or stop after the n-th one.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Sequence
from typing import Final

Buffer = bytes | bytearray | memoryview

_F_FULLFSYNC: Final = 51
_WRITE_PIECE: Final = 32 << 20


class Posix:
    """Plain system calls; no policy, no retry but for short writes.

    Every method raises `OSError` as the system call did.
    """

    def create(self, path: str, mode: int, *, direct: bool = False) -> int:
        """Creates a file that must not exist yet and returns its descriptor.

        Args:
            path: The file.
            mode: Its permissions.
            direct: Whether writes go past the page cache (O_DIRECT); the medium then wants
                addresses, lengths and offsets that are multiples of its alignment.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return os.open(path, flags | os.O_DIRECT if direct else flags, mode)

    def make_buffered(self, fd: int) -> None:
        """Lets the writes of a file that was created as direct go through the page cache."""
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_DIRECT)

    def open_append(self, path: str, mode: int) -> int:
        """Opens a file for appending, creating it where it is missing; readable, too.

        A symbolic link is refused: appending through it would change a file outside the store.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(path, flags, mode)

    def write(self, fd: int, parts: Sequence[Buffer]) -> int:
        """Writes all parts one after another and returns the number of bytes; loops if short."""
        total = 0
        for part in parts:
            view = memoryview(part).cast("B")
            while len(view):
                written = os.write(fd, view[:_WRITE_PIECE])
                if written == 0:
                    raise OSError("the medium took no bytes of a write")
                total += written
                view = view[written:]
        return total

    def pwrite(self, fd: int, data: Buffer, offset: int) -> int:
        """Writes at an offset and returns the number of bytes, which may be fewer."""
        return os.pwrite(fd, data, offset)

    def truncate(self, fd: int, nbytes: int) -> None:
        """Sets a file's length."""
        os.ftruncate(fd, nbytes)

    def fsync(self, fd: int) -> None:
        """Makes a file's bytes durable; a failure is final for the descriptor."""
        if sys.platform == "darwin":
            fcntl.fcntl(fd, _F_FULLFSYNC)
        else:
            os.fsync(fd)

    def close(self, fd: int) -> None:
        """Closes a descriptor; a network filesystem may report a failed write only here."""
        os.close(fd)

    def rename(self, source: str, target: str) -> None:
        """Gives a file its final name, replacing what had it."""
        os.rename(source, target)

    def link(self, source: str, target: str) -> None:
        """Gives a file a second name; fails where the name is taken."""
        os.link(source, target)

    def unlink(self, path: str) -> None:
        """Takes a name away."""
        os.unlink(path)

    def mkdir(self, path: str, mode: int) -> None:
        """Creates a folder that must not exist yet."""
        os.mkdir(path, mode)

    def rmdir(self, path: str) -> None:
        """Removes an empty folder."""
        os.rmdir(path)

    def fsync_folder(self, path: str) -> None:
        """Makes the names in a folder durable."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
