"""Every change of a store, written down as it is made: what a crash could have kept or lost of it.

Files are told apart by numbers, not by names: a file may have several names, and lose them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from holdfast.storage.posix import Buffer, Posix


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes that were written to a file, or its length that was set.

    Attributes:
        file: Its number.
        offset: Where the bytes begin; the new length where `data` is None.
        data: The bytes.
    """

    file: int
    offset: int
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Naming:
    """A change of the names in a folder, which the medium makes whole or not at all.

    Attributes:
        folder: The folder, absolute.
        kind: ``enter`` (a name for a file), ``leave``, ``move`` within the folder, ``mkdir`` or
            ``rmdir``.
        name: The name that comes or goes.
        file: The file's number, for ``enter`` and ``move``.
        before: The name that a ``move`` takes away.
    """

    folder: str
    kind: Literal["enter", "leave", "move", "mkdir", "rmdir"]
    name: str
    file: int = -1
    before: str = ""


@dataclass(frozen=True, slots=True)
class Synced:
    """A file (by number) or a folder (by path) whose changes so far are durable from here on."""

    what: int | str


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that was said at this moment, such as a promise to a caller."""

    text: str


Operation = Data | Naming | Synced | Mark


class RecordingPosix(Posix):
    """Real system calls, written down in their order after they succeeded.

    Args:
        known: Absolute names of the files that are there already, to their numbers.

    Attributes:
        operations: What was done so far.
    """

    def __init__(self, known: dict[str, int] | None = None) -> None:
        self.operations: list[Operation] = []
        self._names = dict(known or {})
        self._next = max(self._names.values(), default=-1) + 1
        self._open: dict[int, int] = {}
        # Calls come from several threads; each and its note are one step.
        self._lock = threading.RLock()

    def mark(self, text: str) -> None:
        """Notes something that was said just now."""
        with self._lock:
            self.operations.append(Mark(text))

    def create(self, path: str, mode: int, *, direct: bool = False) -> int:
        with self._lock:
            fd = super().create(path, mode, direct=direct)
            self._enter(path, self._new(path))
            self._open[fd] = self._names[path]
            return fd

    def open_append(self, path: str, mode: int) -> int:
        with self._lock:
            fd = super().open_append(path, mode)
            if path not in self._names:
                self._enter(path, self._new(path))
            self._open[fd] = self._names[path]
            return fd

    def write(self, fd: int, parts: Sequence[Buffer]) -> int:
        with self._lock:
            # Files are only ever appended to by this call.
            offset = os.fstat(fd).st_size
            data = b"".join(bytes(memoryview(part).cast("B")) for part in parts)
            count = super().write(fd, [data])
            self.operations.append(Data(self._open[fd], offset, data))
            return count

    def pwrite(self, fd: int, data: Buffer, offset: int) -> int:
        with self._lock:
            count = super().pwrite(fd, data, offset)
            written = bytes(memoryview(data).cast("B")[:count])
            self.operations.append(Data(self._open[fd], offset, written))
            return count

    def truncate(self, fd: int, nbytes: int) -> None:
        with self._lock:
            super().truncate(fd, nbytes)
            self.operations.append(Data(self._open[fd], nbytes, None))

    def fsync(self, fd: int) -> None:
        with self._lock:
            super().fsync(fd)
            self.operations.append(Synced(self._open[fd]))

    def close(self, fd: int) -> None:
        with self._lock:
            self._open.pop(fd, None)
            super().close(fd)

    def rename(self, source: str, target: str) -> None:
        with self._lock:
            folder, before = os.path.split(source)
            if os.path.dirname(target) != folder:
                raise ValueError(f"a rename from one folder to another: {source}, {target}")
            same = self._names.get(source) == self._names.get(target)
            super().rename(source, target)
            if same:
                # Two names of one file: the system does nothing.
                return
            number = self._names.pop(source)
            self._names[target] = number
            name = os.path.basename(target)
            self.operations.append(Naming(folder, "move", name, number, before))

    def link(self, source: str, target: str) -> None:
        with self._lock:
            super().link(source, target)
            self._names[target] = self._names[source]
            self._enter(target, self._names[source])

    def unlink(self, path: str) -> None:
        with self._lock:
            super().unlink(path)
            self._names.pop(path, None)
            self._note("leave", path)

    def mkdir(self, path: str, mode: int) -> None:
        with self._lock:
            super().mkdir(path, mode)
            self._note("mkdir", path)

    def rmdir(self, path: str) -> None:
        with self._lock:
            super().rmdir(path)
            self._note("rmdir", path)

    def fsync_folder(self, path: str) -> None:
        with self._lock:
            super().fsync_folder(path)
            self.operations.append(Synced(path))

    # -- noting -----------------------------------------------------------------------------

    def _new(self, path: str) -> int:
        self._names[path] = self._next
        self._next += 1
        return self._names[path]

    def _enter(self, path: str, number: int) -> None:
        folder, name = os.path.split(path)
        self.operations.append(Naming(folder, "enter", name, number))

    def _note(self, kind: Literal["leave", "mkdir", "rmdir"], path: str) -> None:
        folder, name = os.path.split(path)
        self.operations.append(Naming(folder, kind, name))
