"""A journal's lines as another place of its store holds them.

Most lines are facts of the run, and are carried as they are. Some speak of the files of one place,
which may be damaged where those of another are sound: a line of the same length stands for each of
them elsewhere, so that what comes behind it lies at the same offset.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from blake3 import blake3

from holdfast.engine.journal import Record, encode_line, split

#: What was found when the files of one place were read.
_OF_FILES: Final = ("damaged", "healthy", "verified")
_STANDS_FOR: Final = "elsewhere"
#: Lines that tell nothing of the run: their loss is none.
_NO_FACTS: Final = (*_OF_FILES, _STANDS_FOR, "torn", "cut")
_SHORTEST: Final = len(encode_line({"t": _STANDS_FOR, "of": ""}))


@dataclass(frozen=True, slots=True)
class Line:
    """A line that matches its digest.

    Attributes:
        offset: Where it begins.
        data: Its bytes, with its line feed.
        record: What it says.
        carried: Its bytes in another place.
    """

    offset: int
    data: bytes
    record: Record
    carried: bytes

    @property
    def is_fact(self) -> bool:
        """Whether it tells something of the run."""
        return self.record["t"] not in _NO_FACTS

    @property
    def cut_nbytes(self) -> int:
        """How long the journal was before it was cut, if that is what the line says; else 0."""
        nbytes = self.record.get("nbytes") if self.record["t"] == "cut" else None
        return nbytes if isinstance(nbytes, int) else 0


def sound_lines(data: bytes, *, path: str) -> list[Line]:
    """Returns the lines of a journal that match their digest, in order.

    Args:
        data: The journal's bytes.
        path: For messages.

    Raises:
        FormatError: A line has more than `MAX_LINE_NBYTES`.
    """
    return [
        Line(offset, line, record, _carried(line, record))
        for offset, line, record in split(data, path=path)
        if record is not None
    ]


def carried(data: bytes, *, path: str) -> bytes:
    """Returns a journal's bytes as another place of its store holds them, of the same length.

    Raises:
        FormatError: As `sound_lines`.
    """
    lines = [line for line in sound_lines(data, path=path) if line.carried is not line.data]
    if not lines:
        return data
    changed = bytearray(data)
    for line in lines:
        changed[line.offset : line.offset + len(line.carried)] = line.carried
    return bytes(changed)


def _carried(line: bytes, record: Record) -> bytes:
    room = len(line) - _SHORTEST
    if record["t"] not in _OF_FILES or room < 0:
        return line
    # Told from others of its length by what it stands for.
    of = blake3(line).hexdigest(length=room // 2 + 1)[:room]
    return encode_line({"t": _STANDS_FOR, "of": of})
