"""A large file on its way: written piece by piece under a temporary name, named when durable."""

from __future__ import annotations

import contextlib
import errno
import logging
import mmap
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

import numpy as np

from holdfast.errors import SaveError
from holdfast.storage.posix import Buffer, Posix

_log = logging.getLogger("holdfast")

#: What O_DIRECT is asked to take is a multiple of this, in memory and on the medium: at least
#: every medium's alignment that `probe` lets through.
ALIGNMENT: Final = 4096
#: Larger pieces were no faster; smaller ones leave the medium idle between two calls.
_PIECE_NBYTES: Final = 32 << 20
#: What is small or lies at odd addresses is gathered here first.
_GATHER_NBYTES: Final = 4 << 20
_STRAIGHT_NBYTES: Final = 64 << 10

Translated = Callable[[str], AbstractContextManager[None]]


def address_of(view: memoryview) -> int:
    """Returns where a buffer's first byte lies in memory."""
    return int(np.frombuffer(view, np.uint8).__array_interface__["data"][0])


class Draft:
    """A file without its name yet; written from front to back but for its first bytes.

    Args:
        posix: The system calls.
        temporary: Where it is written; nothing must be there.
        label: What messages call it.
        mode: Its permissions once it is published.
        start: Bytes left free at the front, for `fill_start`; a multiple of `ALIGNMENT`.
        direct: Whether to go past the page cache. A medium that refuses it all the same is
            written through the cache instead.
        translated: Turns errors of the medium into ours.

    Raises:
        SaveError, StorageFullError: The medium failed; so do all methods. `discard` then.
    """

    def __init__(
        self,
        posix: Posix,
        *,
        temporary: str,
        label: str,
        mode: int,
        start: int,
        direct: bool,
        translated: Translated,
    ) -> None:
        self._posix = posix
        self._temporary = temporary
        self._label = label
        self._mode = mode
        self._start = start
        self._written = start
        self._gathered = 0
        self._translated = translated
        self._gather: mmap.mmap | None = None
        self.direct = direct
        self._fd: int | None = None
        with translated(f"creating {label}"):
            self._fd = self._create()

    @property
    def nbytes(self) -> int:
        """Bytes so far, the room at the front included."""
        return self._written + self._gathered

    def append(self, data: Buffer) -> None:
        """Adds bytes at the end; on return the buffer may change."""
        view = memoryview(data).cast("B")
        with self._translated(f"writing {self._label}"):
            while len(view):
                view = view[self._append_some(view) :]

    def fill_start(self, data: bytes) -> None:
        """Writes the bytes at the front for which room was left."""
        if len(data) != self._start:
            raise ValueError(f"{len(data)} bytes for the {self._start} at the front")
        with self._translated(f"writing {self._label}"):
            self._flush()
            gather = self._gathering()
            for begin in range(0, len(data), _GATHER_NBYTES):
                piece = memoryview(data)[begin : begin + _GATHER_NBYTES]
                gather[: len(piece)] = piece
                with memoryview(gather) as whole:
                    self._write(whole[: len(piece)], begin)

    def publish(self, target: str) -> None:
        """Makes the bytes durable and gives the file its name; the folder is not synced.

        Args:
            target: Absolute, in the folder of the temporary name.
        """
        with self._translated(f"writing {self._label}"):
            self._flush()
            fd = self._descriptor()
            os.fchmod(fd, self._mode)
            length = os.fstat(fd).st_size
            if length != self._written:
                raise SaveError(
                    f"{self._label} has {length} bytes after writing {self._written}",
                    hint="another program writes into the store, or the medium is failing",
                )
            # Never retried: after a failed fsync the kernel may have dropped the pages.
            self._posix.fsync(fd)
            self._fd = None
            self._posix.close(fd)
            self._posix.rename(self._temporary, target)

    def discard(self) -> None:
        """Removes what was written; nothing happens after `publish`, or the second time."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            with contextlib.suppress(OSError):
                self._posix.close(fd)
        with contextlib.suppress(OSError):
            self._posix.unlink(self._temporary)

    # -- within ------------------------------------------------------------------------------

    def _create(self) -> int:
        if self.direct:
            try:
                return self._posix.create(self._temporary, 0o600, direct=True)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._leave_direct()
                # Some systems have made the file by then.
                with contextlib.suppress(FileNotFoundError):
                    self._posix.unlink(self._temporary)
        return self._posix.create(self._temporary, 0o600)

    def _append_some(self, view: memoryview) -> int:
        if not self.direct and len(view) >= _STRAIGHT_NBYTES:
            self._flush()
        aligned = not self.direct or address_of(view) % ALIGNMENT == 0
        if not self._gathered and aligned and len(view) >= _STRAIGHT_NBYTES:
            count = min(len(view), _PIECE_NBYTES)
            if self.direct:
                count -= count % ALIGNMENT
            self._write(view[:count], self._written)
            self._written += count
            return count
        count = min(len(view), _GATHER_NBYTES - self._gathered)
        self._gathering()[self._gathered : self._gathered + count] = view[:count]
        self._gathered += count
        if self._gathered == _GATHER_NBYTES:
            self._flush()
        return count

    def _gathering(self) -> mmap.mmap:
        if self._gather is None:
            self._gather = mmap.mmap(-1, _GATHER_NBYTES)
        return self._gather

    def _flush(self) -> None:
        """Writes what was gathered, padded to the alignment; the padding is cut off again."""
        if not self._gathered:
            return
        count = self._gathered
        padded = -(-count // ALIGNMENT) * ALIGNMENT
        gather = self._gathering()
        gather[count:padded] = bytes(padded - count)
        with memoryview(gather) as whole:
            self._write(whole[:padded], self._written)
        self._written += count
        self._gathered = 0
        if padded > count:
            self._posix.truncate(self._descriptor(), self._written)

    def _write(self, view: memoryview, offset: int) -> None:
        fd = self._descriptor()
        while len(view):
            try:
                count = self._posix.pwrite(fd, view, offset)
            except OSError as error:
                if error.errno != errno.EINVAL or not self.direct:
                    raise
                self._leave_direct()
                self._posix.make_buffered(fd)
                continue
            if count == 0:
                raise OSError("the medium took no bytes of a write")
            if self.direct and count % ALIGNMENT and count < len(view):
                # The rest would begin at an odd address.
                self._leave_direct()
                self._posix.make_buffered(fd)
            offset += count
            view = view[count:]

    def _leave_direct(self) -> None:
        _log.debug("%s does not take direct writes: written through the cache", self._label)
        self.direct = False

    def _descriptor(self) -> int:
        if self._fd is None:
            raise ValueError(f"{self._label} is closed")
        return self._fd
