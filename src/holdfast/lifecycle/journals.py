"""A run's journal in two places: neither loses a sound line to the other's damage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from holdfast.engine.journal import parse, sound_lines
from holdfast.errors import HoldfastError
from holdfast.storage import LocalStorage, set_aside

#: A journal that is written meanwhile is compared again, but not for ever.
_ATTEMPTS: Final = 4


@dataclass(frozen=True, slots=True)
class Cure:
    """What a store's journal would be with the lines that it lost.

    Attributes:
        content: All its lines: the mirror's, and then those that the store alone has.
        lines: How many of them the store lacks now.
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
            IntegrityError: A journal cannot be read.
        """
        for _ in range(_ATTEMPTS):
            # What is damaged, or has lost something, is compared as a whole each time.
            whole = self._length < 0 or (self._target.size(self._path) or 0) != self._length
            new = None if whole else self._news()
            if new == b"":
                return ()
            if new is not None and not parse(new, path=self._path).damage:
                if self._append(new, at=self._length):
                    self._offset += len(new)
                    return ()
                continue
            problems = self._compare()
            if problems is not None:
                return problems
        raise HoldfastError(
            f"{self._target.root}/{self._path} changes all the time",
            hint="stop what writes to the mirror",
        )

    def _news(self) -> bytes | None:
        """Returns the whole lines that the source got since; None where it is shorter now."""
        if (self._source.size(self._path) or 0) < self._offset:
            return None
        return whole_lines(self._source, self._path, start=self._offset)

    def _compare(self) -> tuple[str, ...] | None:
        """Brings all of it up to date; returns None where the mirror changed meanwhile."""
        ours = whole_lines(self._source, self._path)
        theirs = self._target.read(self._path) if self._target.size(self._path) else b""
        mine = parse(ours, path=self._path)
        if not ours and theirs:
            return (f"{self._path} is missing or empty, and its mirror has lines",)
        wanted, lost = theirs, 0
        if mine.damage or not ours.startswith(theirs):
            wanted, lost = _united(ours, theirs, self._path, sound=not mine.damage)
        else:
            wanted = ours
        if wanted.startswith(theirs):
            if not self._append(wanted[len(theirs) :], at=len(theirs)):
                return None
        else:
            self._target.publish(self._path, [wanted])
        problems = mine.damage
        if lost:
            problems += (f"{self._path} lacks {lost} lines that its mirror has",)
        self._offset, self._length = len(ours), -1 if problems else len(wanted)
        return problems

    def _append(self, data: bytes, *, at: int) -> bool:
        """Appends to the mirror's copy, if it is still as long as it was."""
        if not data:
            return True
        created = self._target.size(self._path) is None
        with self._target.appending(self._path) as file:
            if file.nbytes != at:
                self._length = -1
                return False
            file.append(data, durable=True)
        if created:
            self._target.sync_folder(self._path.rpartition("/")[0])
        self._length = at + len(data)
        return True


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
    """Returns what a store's journal gains from its mirror's copy; None where that is nothing."""
    ours = whole_lines(place, path)
    theirs = whole_lines(mirror, path)
    have = set(sound_lines(ours, path=path))
    lost = [line for line in sound_lines(theirs, path=path) if line not in have]
    if not lost:
        return None
    known = set(sound_lines(theirs, path=path))
    # As it was, to the byte, where the mirror's copy is sound.
    begin = b"".join(sound_lines(theirs, path=path)) if parse(theirs, path=path).damage else theirs
    later = [line for line in sound_lines(ours, path=path) if line not in known]
    return Cure(begin + b"".join(later), len(lost))


def mend(place: LocalStorage, mirror: LocalStorage, path: str) -> int:
    """Gives a store's journal the lines that it lost; what was there goes to the quarantine.

    Returns:
        How many lines it got back.

    Raises:
        SaveError, StorageFullError: The medium failed; the journal is as it was.
    """
    # Locked: no process appends between the reading and the replacing, and one that waits for
    # the lock finds the new file.
    with place.appending(path) as file:
        cure = cure_of(place, mirror, path)
        if cure is None:
            return 0
        if file.nbytes:
            set_aside(place, path, copy=True)
        place.publish(path, [cure.content])
    return cure.lines


def _united(ours: bytes, theirs: bytes, path: str, *, sound: bool) -> tuple[bytes, int]:
    """Returns the mirror's lines and those that the store alone has, and how many it lacks."""
    mine, other = sound_lines(ours, path=path), sound_lines(theirs, path=path)
    have, known = set(mine), set(other)
    lost = sum(line not in have for line in other)
    if sound and not lost:
        return ours, 0
    end = theirs.rfind(b"\n") + 1
    whole = parse(theirs[:end], path=path)
    begin = b"".join(other) if whole.damage else theirs[:end]
    return begin + b"".join(line for line in mine if line not in known), lost
