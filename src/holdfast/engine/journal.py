"""A run's journal: one sealed line per fact, appended by any process (docs/format.md)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from blake3 import blake3

from holdfast.engine.sealed import dump_strict, encode_numbers, parse_strict
from holdfast.errors import ConfigError, FormatError
from holdfast.storage import LocalStorage
from holdfast.storage.openfiles import Appender, OpenFile

_DIGITS: Final = 16
#: Length of ``,"digest":"<16 digits>"}``.
_SEAL_NBYTES: Final = 11 + _DIGITS + 2
_TAIL_NBYTES: Final = 1 << 16
#: A line of more was not written by Holdfast: a journal is read piece by piece, and a line whole.
MAX_LINE_NBYTES: Final = 64 << 20
_PIECE_NBYTES: Final = 16 << 20
#: Begins the escape of half a surrogate pair, which may lack its other half.
_ESCAPED: Final = b"\\ud"

Record = Mapping[str, Any]


class Append(Protocol):
    """Appends records to a journal that is locked; returns its length before and after."""

    def __call__(self, records: Iterable[Record], *, durable: bool) -> tuple[int, int]:
        """Does so; errors as `Journal.append`."""
        ...


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

    def append(
        self,
        records: Iterable[Record],
        *,
        durable: bool,
        provided: Callable[[], object] = lambda: None,
    ) -> tuple[int, int]:
        """Appends records, alone among all processes.

        Args:
            records: Each with its ``t``.
            durable: Whether they, and all lines before them, are on the medium on return.
            provided: Called once nobody else appends any more; what it raises keeps the records
                out.

        Returns:
            The journal's length in bytes before and after.

        Raises:
            StorageFullError, SaveError: The medium failed; the records are not in the journal, or
                not whole, which the next append notes.
            ConfigError: A record is longer than a reader takes; nothing was written.
            FormatError: What is there is no journal.
        """
        created = self._storage.size(self.path) is None
        with self.alone() as append:
            provided()
            nbytes = append(records, durable=durable)
        if created:
            self._storage.sync_folder(self.path.rpartition("/")[0])
        return nbytes

    @contextlib.contextmanager
    def alone(self) -> Iterator[Append]:
        """Keeps all other appends waiting, by any process, and yields what appends meanwhile.

        What was read in the journal inside the block holds until its end.

        Raises:
            SaveError: The journal cannot be opened or locked.
            FormatError: What is there is no journal.
        """

        def append(records: Iterable[Record], *, durable: bool) -> tuple[int, int]:
            encoded = [encode_line(record) for record in records]
            if (longest := max(map(len, encoded), default=0)) > MAX_LINE_NBYTES:
                raise ConfigError(
                    f"a line of {self.path} would have {longest} bytes, {MAX_LINE_NBYTES} is most",
                    hint="attach less: keep large configuration and metadata in arrays or files",
                )
            lines = b"".join(encoded)
            before = file.nbytes
            torn = _torn_nbytes(file, self.path) if before else 0
            if torn:
                lines = b"\n" + encode_line({"t": "torn", "nbytes": torn}) + lines
            file.append(lines, durable=durable)
            return before, before + len(lines)

        with self._storage.appending(self.path) as file:
            yield append

    @property
    def nbytes(self) -> int:
        """The journal's length in bytes; 0 where there is none."""
        return self._storage.size(self.path) or 0

    def read(self, *, start: int = 0) -> Reading:
        """Returns the records from an offset on, which is the end of some earlier reading.

        Raises:
            FormatError: It is not a regular file, or has a line of more than `MAX_LINE_NBYTES`.
            IntegrityError: The medium could not read it.
        """
        try:
            with self._storage.reading(self.path) as file:
                return _parse(_pieces(file, start), path=self.path, start=start)
        except FileNotFoundError:
            return Reading((), (), 0, 0)


def _pieces(file: OpenFile, start: int) -> Iterator[bytes]:
    """Yields a file from an offset to what is its end now."""
    for offset in range(start, file.nbytes, _PIECE_NBYTES):
        piece = bytearray(min(_PIECE_NBYTES, file.nbytes - offset))
        file.read_into(offset, memoryview(piece))
        yield bytes(piece)


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

    Raises:
        FormatError: A line has more than `MAX_LINE_NBYTES`.
    """
    return _parse(iter((data,)), path=path, start=start)


def _parse(pieces: Iterator[bytes], *, path: str, start: int) -> Reading:
    records: list[Record] = []
    damage: list[str] = []
    suspect: tuple[int, bytes] | None = None
    where = start
    torn = b""
    for line, ended in _lines(pieces, path):
        if not ended:
            torn = line
            break
        record = _decode_line(line, path)
        if record is not None:
            if suspect and not _counts(record, suspect[1], path):
                damage.append(_describe(path, *suspect))
            suspect = None
            records.append(record)
        else:
            if suspect:
                damage.append(_describe(path, *suspect))
            # An empty line has lost nothing: one is left where a line feed was mended that a later
            # append had taken for torn and had ended once more.
            suspect = (where, line) if line else None
        where += len(line) + 1
    if suspect:
        damage.append(_describe(path, *suspect))
    if _is_whole(torn, path):
        damage.append(_describe(path, where, torn))
    return Reading(tuple(records), tuple(damage), where, len(torn))


def split(data: bytes, *, path: str) -> Iterator[tuple[int, bytes, Record | None]]:
    """Yields the ended lines of a journal: offset, bytes with the line feed, and what it says.

    What does not match its digest says nothing.

    Raises:
        FormatError: A line has more than `MAX_LINE_NBYTES`.
    """
    offset = 0
    for line, ended in _lines(iter((data,)), path):
        if ended:
            yield offset, line + b"\n", _decode_line(line, path)
        offset += len(line) + 1


def _counts(record: Record, suspect: bytes, path: str) -> bool:
    """Returns whether a line says that the one before it is a torn tail; else that is damage."""
    counted = record.get("t") == "torn" and record.get("nbytes") == len(suspect)
    return counted and not _is_whole(suspect, path)


def _torn_nbytes(file: Appender, path: str) -> int:
    """Returns the bytes behind the last line feed; more are read while none was found."""
    nbytes = _TAIL_NBYTES
    while True:
        tail = file.tail(nbytes)
        end = tail.rfind(b"\n") + 1
        if end or len(tail) < nbytes:
            return len(tail) - end
        if nbytes > MAX_LINE_NBYTES:
            raise _too_long(path)
        nbytes *= 8


def _lines(pieces: Iterator[bytes], path: str) -> Iterator[tuple[bytes, bool]]:
    """Yields lines without their line feeds; the last one, where it has none, as not ended."""
    rest: list[bytes] = []
    length = 0
    for piece in pieces:
        begin = 0
        while (end := piece.find(b"\n", begin)) >= 0:
            yield b"".join((*rest, piece[begin:end])), True
            rest, length, begin = [], 0, end + 1
        if begin < len(piece):
            rest.append(piece[begin:])
            length += len(rest[-1])
        if length > MAX_LINE_NBYTES:
            raise _too_long(path)
    if rest:
        yield b"".join(rest), False


def _too_long(path: str) -> FormatError:
    return FormatError(
        f"{path} has a line of more than {MAX_LINE_NBYTES} bytes",
        hint="it was not written by Holdfast: restore it from a copy, or remove it",
    )


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


def _is_whole(tail: bytes, path: str) -> bool:
    """Returns whether what looks torn is a whole line whose line feed became another byte."""
    return tail[-2:-1] == b"}" and _decode_line(tail[:-1], path) is not None


def _describe(path: str, offset: int, line: bytes) -> str:
    return f"{path}: the line at byte {offset} ({len(line)} bytes) does not match its digest"
