"""A run's journal in two places: neither loses a sound line to the other's damage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from holdfast.engine.carriedlines import Line, carried, sound_lines
from holdfast.engine.journal import parse
from holdfast.errors import HoldfastError
from holdfast.storage import LocalStorage, replace, set_aside

#: A journal that is written meanwhile is compared again, but not for ever.
_ATTEMPTS: Final = 4


@dataclass(frozen=True, slots=True)
class Cure:
    """What a store's journal would be with the lines that it lost.

    Attributes:
        content: All its lines: the mirror's, and then those that the store alone has.
        lines: How many of them the store lacks now, or has damaged.
    """

    content: bytes
    lines: int


class FollowedJournal:
    """Brings a mirror's copy of one journal up to date, reading only what is new where it can.

    Args:
        source: The store's files.
        target: The mirror's files.
        path: The journal's path in both.
    """

    def __init__(self, source: LocalStorage, target: LocalStorage, path: str) -> None:
        self._source = source
        self._target = target
        self._path = path
        #: All lines of the source before this are in the target.
        self._offset = 0
        #: How long the target was when that was so; -1 before the first comparison.
        self._length = -1

    def update(self) -> tuple[str, ...]:
        """Gives the mirror every sound line that it lacks; returns what is wrong with the store's.

        Damage is not copied, and what the mirror alone has stays.

        Raises:
            SaveError, StorageFullError: The mirror's medium failed; calling again goes on.
            IntegrityError, FormatError: A journal cannot be read.
        """
        for _ in range(_ATTEMPTS):
            # What is damaged, or has lost something, is compared as a whole each time.
            whole = self._length < 0 or (self._target.size(self._path) or 0) != self._length
            new = None if whole else self._news()
            if new is None or parse(new, path=self._path).damage:
                return self._compare()
            if not new or self._append(carried(new, path=self._path)):
                self._offset += len(new)
                return ()
        raise HoldfastError(
            f"{self._target.root}/{self._path} changes all the time",
            hint="stop what writes to the mirror",
        )

    def _news(self) -> bytes | None:
        """Returns the whole lines that the source got since; None where it is shorter now."""
        if (self._source.size(self._path) or 0) < self._offset:
            return None
        return whole_lines(self._source, self._path, start=self._offset)

    def _append(self, data: bytes) -> bool:
        """Appends to the mirror's copy, if it is still as long as it was."""
        with self._target.appending(self._path) as file:
            if file.nbytes != self._length:
                self._length = -1
                return False
            file.append(data, durable=True)
        self._length += len(data)
        return True

    def _compare(self) -> tuple[str, ...]:
        """Brings all of it up to date, and looks for what either has alone."""
        ours = whole_lines(self._source, self._path)
        created = self._target.size(self._path) is None
        if created and not ours:
            return ()
        # Locked: nothing that is said at the mirror comes between the reading and the replacing.
        with self._target.appending(self._path) as file:
            theirs = self._target.read(self._path)
            if theirs and not ours:
                return (f"{self._path} is missing or empty, and its mirror has lines",)
            wanted, problems = _followed(ours, theirs, self._path)
            if wanted.startswith(theirs):
                file.append(wanted[len(theirs) :], durable=True)
            else:
                replace(self._target, self._path, wanted)
        if created:
            self._target.sync_folder(self._path.rpartition("/")[0])
        self._offset, self._length = len(ours), -1 if problems else len(wanted)
        return problems


def whole_lines(storage: LocalStorage, path: str, *, start: int = 0) -> bytes:
    """Returns a journal's bytes up to its last line feed; none where there is no journal."""
    try:
        with storage.reading(path) as file:
            data = bytearray(max(0, file.nbytes - start))
            file.read_into(start, memoryview(data))
    except FileNotFoundError:
        return b""
    return bytes(data[: data.rfind(b"\n") + 1])


def cure_of(place: LocalStorage, mirror: LocalStorage, path: str) -> Cure | None:
    """Returns what a store's journal gains from its mirror's copy; None where that is nothing.

    Raises:
        IntegrityError, FormatError: A journal cannot be read.
    """
    ours = whole_lines(place, path)
    theirs = carried(whole_lines(mirror, path), path=path)
    mine, other = sound_lines(ours, path=path), sound_lines(theirs, path=path)
    damage = parse(ours, path=path).damage
    lost = _lost(mine, other)
    if not lost and not damage:
        return None
    content = _overlaid(ours, theirs, mine)
    if content is None:
        content = _united(theirs, mine, other, path)
    if not lost and len(parse(content, path=path).damage) >= len(damage):
        return None
    return Cure(content, max(lost, len(damage)))


def mend(place: LocalStorage, mirror: LocalStorage, path: str) -> int:
    """Gives a store's journal the lines that it lost; what was there goes to the quarantine.

    Returns:
        How many lines it got back.

    Raises:
        SaveError, StorageFullError: The medium failed; the journal is as it was.
        IntegrityError, FormatError: A journal cannot be read.
    """
    # Locked: no process appends between the reading and the replacing, and one that waits for
    # the lock finds the new file.
    with place.appending(path) as file:
        cure = cure_of(place, mirror, path)
        if cure is None:
            return 0
        if file.nbytes:
            set_aside(place, path, copy=True)
        replace(place, path, cure.content)
    return cure.lines


def _followed(ours: bytes, theirs: bytes, path: str) -> tuple[bytes, tuple[str, ...]]:
    """Returns what a mirror's copy is to be, and what is wrong with the store's."""
    wanted = carried(ours, path=path)
    damage = parse(ours, path=path).damage
    if not damage and wanted.startswith(theirs):
        return wanted, ()
    mine, other = sound_lines(ours, path=path), sound_lines(theirs, path=path)
    lost = _lost(mine, other)
    if not damage and not lost and not any(line.data != line.carried for line in other):
        return wanted, ()
    lacks = f"{path} lacks {lost} lines that its mirror has"
    elsewhere = [Line(line.offset, line.carried, line.record, line.carried) for line in mine]
    return _united(theirs, elsewhere, other, path), damage + ((lacks,) if lost else ())


def _lost(mine: Sequence[Line], other: Sequence[Line]) -> int:
    """Returns how many facts of the run the store lacks, which its mirror has."""
    have = {line.data for line in mine}
    return sum(line.is_fact and line.data not in have for line in other)


def _overlaid(ours: bytes, theirs: bytes, mine: Sequence[Line]) -> bytes | None:
    """Returns the mirror's bytes with all sound lines of the store's in their places.

    What the store alone has keeps its damage: it may have been a fact. None where the two have
    gone apart, so that the same offset is not the same line.
    """
    content = bytearray(theirs + ours[len(theirs) :])
    for line in mine:
        end = line.offset + len(line.data)
        if line.offset < len(theirs) and theirs[line.offset : end] != line.carried:
            return None
        content[line.offset : end] = line.data
    return bytes(content)


def _united(theirs: bytes, mine: Sequence[Line], other: Sequence[Line], path: str) -> bytes:
    """Returns the mirror's lines and, behind them, those that the store alone has.

    That lines were lost is no longer so where the mirror's copy has the length that was noted.
    """
    end = theirs.rfind(b"\n") + 1
    own = {line.carried: line.data for line in mine}
    if parse(theirs[:end], path=path).damage:
        begin = b"".join(own.get(line.data, line.data) for line in other)
    else:
        whole = bytearray(theirs[:end])
        for line in other:
            there = own.get(line.data, line.data)
            whole[line.offset : line.offset + len(there)] = there
        begin = bytes(whole)
    known = {line.carried for line in other}
    later = [line for line in mine if line.carried not in known]
    return begin + b"".join(line.data for line in later if not 0 < line.cut_nbytes <= end)
