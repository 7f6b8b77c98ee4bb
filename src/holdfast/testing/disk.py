"""What a disk may hold after a crash: all that was synced, and any part of what was not.

The model is harsher than any filesystem. A file's bytes are durable by a sync of the file alone, a
name by a sync of its folder alone, whatever a journal of the filesystem would have saved besides.
What was not synced may be kept or lost singly and in any combination, and a write may be torn.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from blake3 import blake3

from holdfast.storage.recording import Data, Naming, Operation, Synced

#: Stands in a folder's names for a folder, where a file has its number.
_FOLDER: Final = -1


@dataclass(frozen=True, slots=True)
class Torn:
    """Which bytes of a write are kept: those from `begin` up to `end`."""

    begin: int
    end: int


#: Number of an operation to how much of it is kept; None for all of it.
Kept = Mapping[int, Torn | None]


@dataclass(slots=True)
class Image:
    """Names and bytes.

    Attributes:
        names: Folder to its names, each to a file's number, or to `_FOLDER`.
        data: File's number to its bytes.
    """

    names: dict[str, dict[str, int]] = field(default_factory=dict)
    data: dict[int, bytes] = field(default_factory=dict)

    @classmethod
    def read(cls, root: Path, *, without: Iterable[str] = ()) -> tuple[Image, dict[str, int]]:
        """Reads a folder, all of it taken as durable.

        Args:
            root: The folder; it may not exist yet.
            without: Beginnings of names of files that are left out.

        Returns:
            The image, and absolute file name to number.
        """
        image, known = cls(), dict[str, int]()
        numbers: dict[tuple[int, int], int] = {}
        image.names[str(root.parent)] = {root.name: _FOLDER} if root.exists() else {}
        for folder, folders, files in os.walk(root):
            names = dict.fromkeys(folders, _FOLDER)
            for name in files:
                if name.startswith(tuple(without)):
                    continue
                path = Path(folder, name)
                status = path.stat()
                number = numbers.setdefault((status.st_dev, status.st_ino), len(numbers))
                image.data.setdefault(number, path.read_bytes())
                names[name] = known[str(path)] = number
            image.names[folder] = names
        return image, known

    def copy(self) -> Image:
        """Returns an image that can change by itself."""
        return Image({folder: dict(names) for folder, names in self.names.items()}, dict(self.data))

    def apply(self, operation: Operation, torn: Torn | None = None) -> None:
        """Makes a change, or the part of a write that is kept."""
        if isinstance(operation, Naming):
            self._name(operation)
        elif isinstance(operation, Data):
            self.data[operation.file] = _changed(
                self.data.get(operation.file, b""), operation, torn
            )

    def _name(self, naming: Naming) -> None:
        names = self.names.setdefault(naming.folder, {})
        path = f"{naming.folder}/{naming.name}"
        if naming.kind in ("enter", "move"):
            names[naming.name] = naming.file
            names.pop(naming.before, None)
        elif naming.kind == "mkdir":
            names[naming.name] = _FOLDER
            self.names.setdefault(path, {})
        elif naming.kind == "leave":
            names.pop(naming.name, None)
        else:
            # It was empty when it was removed: whatever is lost of that goes with it.
            names.pop(naming.name, None)
            self.names.pop(path, None)

    def digest(self, root: str) -> bytes:
        """Returns a digest of what is reachable: names, which of them are one file, and bytes."""
        lines = []
        first: dict[int, int] = {}
        for path, number in sorted(self._reachable(root)):
            known = first.setdefault(number, len(first)) if number != _FOLDER else _FOLDER
            content = b"" if number == _FOLDER else blake3(self.data.get(number, b"")).digest()
            lines.append(f"{path}\0{known}\0".encode() + content)
        return blake3(b"\n".join(lines)).digest()

    def write(self, root: str, target: Path) -> None:
        """Writes what is reachable to an empty place; files of several names keep them."""
        first: dict[int, Path] = {}
        for path, number in self._reachable(root):
            place = Path(f"{target}{path[len(root) :]}")
            if number == _FOLDER:
                place.mkdir(parents=True)
            elif number in first:
                os.link(first[number], place)
            else:
                place.write_bytes(self.data.get(number, b""))
                first[number] = place

    def _reachable(self, root: str) -> Iterable[tuple[str, int]]:
        folder, _, name = root.rpartition("/")
        if name not in self.names.get(folder, {}):
            return
        waiting = [root]
        while waiting:
            path = waiting.pop()
            yield path, _FOLDER
            for name, number in self.names.get(path, {}).items():
                if number == _FOLDER:
                    waiting.append(f"{path}/{name}")
                else:
                    yield f"{path}/{name}", number


class Disk:
    """A disk while operations are done to it one after another.

    Args:
        start: What is durable before the first.

    Attributes:
        durable: What any crash leaves at least.
        pending: Number of each operation that a crash may undo, in order, to the operation.
    """

    def __init__(self, start: Image) -> None:
        self.durable = start.copy()
        self.pending: dict[int, Operation] = {}

    def do(self, number: int, operation: Operation) -> None:
        """Does the next operation."""
        if isinstance(operation, Synced):
            for done, earlier in list(self.pending.items()):
                subject = earlier.file if isinstance(earlier, Data) else _folder_of(earlier)
                if subject == operation.what:
                    self.durable.apply(earlier)
                    del self.pending[done]
        elif isinstance(operation, (Data, Naming)):
            self.pending[number] = operation

    def after_crash(self, kept: Kept) -> Image:
        """Returns what is there when of the pending operations just these are kept."""
        image = self.durable.copy()
        for number, operation in self.pending.items():
            if number in kept:
                image.apply(operation, kept[number])
        return image


def _folder_of(operation: Operation) -> str:
    return operation.folder if isinstance(operation, Naming) else ""


def _changed(before: bytes, change: Data, torn: Torn | None) -> bytes:
    if change.data is None:
        return before[: change.offset].ljust(change.offset, b"\0")
    piece, offset = change.data, change.offset
    if torn is not None:
        # The file is as long as the whole write made it: its length may be kept without its bytes.
        before = before.ljust(offset + len(piece), b"\0")
        piece, offset = piece[torn.begin : torn.end], offset + torn.begin
    return before[:offset].ljust(offset, b"\0") + piece + before[offset + len(piece) :]
