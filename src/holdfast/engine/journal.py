"""A run's journal: one sealed line per fact, appended by any process (docs/format.md)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from blake3 import blake3

from holdfast.engine.sealed import dump_strict, encode_numbers, parse_strict
from holdfast.errors import FormatError
from holdfast.storage import LocalStorage
from holdfast.storage.openfiles import Appender

_DIGITS: Final = 16
#: Length of ``,"digest":"<16 digits>"}``.
_SEAL_NBYTES: Final = 11 + _DIGITS + 2
_TAIL_NBYTES: Final = 1 << 16
#: Begins the escape of half a surrogate pair, which may lack its other half.
_ESCAPED: Final = b"\\ud"

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a journal, or the end of one, held.

    Attributes:
        records: The intact lines, in order.
        damage: One sentence per damaged line.
        nbytes: Offset up to which it was read: the end of the last whole line.
        torn_nbytes: Bytes behind it that some writer did not finish.
    """

    records: tuple[Record, ...]
    damage: tuple[str, ...]
    nbytes: int
    torn_nbytes: int


class Journal:
    """One run's journal.

    Args:
        storage: The store's files.
        path: The journal's path; its folder exists when something is appended.
    """

    def __init__(self, storage: LocalStorage, path: str) -> None:
        self._storage = storage
        self.path = path

    def append(self, records: Iterable[Record], *, durable: bool) -> tuple[int, int]:
        """Appends records, alone among all processes.

        Args:
            records: Each with its ``t``.
            durable: Whether they, and all lines before them, are on the medium on return.

        Returns:
            The journal's length in bytes before and after.

        Raises:
            StorageFullError, SaveError: The medium failed; the records are not in the journal, or
                not whole, which the next append notes.
        """
        lines = b"".join(encode_line(record) for record in records)
        created = self._storage.size(self.path) is None
        with self._storage.appending(self.path) as file:
            before = file.nbytes
            if before:
                torn = _torn_nbytes(file)
                if torn:
                    lines = b"\n" + encode_line({"t": "torn", "nbytes": torn}) + lines
            file.append(lines, durable=durable)
        if created:
            self._storage.sync_folder(self.path.rpartition("/")[0])
        return before, before + len(lines)

    @property
    def nbytes(self) -> int:
        """The journal's length in bytes; 0 where there is none."""
        return self._storage.size(self.path) or 0

    def read(self, *, start: int = 0) -> Reading:
        """Returns the records from an offset on, which is the end of some earlier reading."""
        try:
            with self._storage.reading(self.path) as file:
                data = bytearray(max(0, file.nbytes - start))
                file.read_into(start, memoryview(data))
        except FileNotFoundError:
            return Reading((), (), 0, 0)
        return parse(bytes(data), path=self.path, start=start)


def encode_line(record: Record) -> bytes:
    """Returns a record as a line that ends in its digest."""
    body = _body(record)[:-1]
    digest = blake3(body).hexdigest(length=_DIGITS // 2).encode()
    return body + b',"digest":"' + digest + b'"}\n'


def _body(record: Record) -> bytes:
    if record.get("t") == "steps":
        # Thousands a second, and nearly always plain: text and finite numbers under text keys.
        with contextlib.suppress(TypeError, ValueError):
            body = dump_strict(record)
            if _ESCAPED not in body:
                return body
    return dump_strict(encode_numbers(record))


def parse(data: bytes, *, path: str, start: int = 0) -> Reading:
    """Returns the intact records in a journal's bytes, and what is wrong with the others.

    Args:
        data: The bytes from an offset on.
        path: For messages.
        start: That offset.
    """
    records: list[Record] = []
    damage: list[str] = []
    suspect: tuple[int, int] | None = None
    offset = 0
    for line in _lines(data):
        record = _decode_line(line, path)
        where = start + offset
        offset += len(line) + 1
        if record is None:
            if suspect:
                damage.append(_describe(path, *suspect))
            suspect = (where, len(line))
            continue
        if suspect:
            # The line after a torn tail counts its bytes; anything else was damaged later.
            if not (record.get("t") == "torn" and record.get("nbytes") == suspect[1]):
                damage.append(_describe(path, *suspect))
            suspect = None
        records.append(record)
    if suspect:
        damage.append(_describe(path, *suspect))
    return Reading(tuple(records), tuple(damage), start + offset, len(data) - offset)


def sound_lines(data: bytes, *, path: str) -> list[bytes]:
    """Returns the lines of a journal that match their digest, in order, each with its line feed."""
    return [line + b"\n" for line in _lines(data) if _decode_line(line, path) is not None]


def _torn_nbytes(file: Appender) -> int:
    """Returns the bytes behind the last line feed; more are read while none was found."""
    nbytes = _TAIL_NBYTES
    while True:
        tail = file.tail(nbytes)
        end = tail.rfind(b"\n") + 1
        if end or len(tail) < nbytes:
            return len(tail) - end
        nbytes *= 8


def _lines(data: bytes) -> Iterator[bytes]:
    begin = 0
    while (end := data.find(b"\n", begin)) >= 0:
        yield data[begin:end]
        begin = end + 1


def _decode_line(line: bytes, path: str) -> Record | None:
    body, seal = line[:-_SEAL_NBYTES], line[-_SEAL_NBYTES:]
    digest = blake3(body).hexdigest(length=_DIGITS // 2).encode()
    if seal != b',"digest":"' + digest + b'"}':
        return None
    try:
        record = parse_strict(body + b"}", path=path)
    except FormatError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("t"), str) else None


def _describe(path: str, offset: int, nbytes: int) -> str:
    return f"{path}: the line at byte {offset} ({nbytes} bytes) does not match its digest"
