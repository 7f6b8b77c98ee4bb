"""What came since somebody looked last: for pages and terminals that show a store as it changes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Connection, Row, Table, func, select

from holdfast.catalog.connection import translated
from holdfast.catalog.opening import Opened
from holdfast.catalog.rows import decision_of, step_of, times_of
from holdfast.catalog.schema import decisions, steps, times
from holdfast.catalog.session import Session
from holdfast.model import Decision, SaveTimes, StepRow

T = TypeVar("T")

#: Commits of other connections change the first (https://sqlite.org/pragma.html#pragma_data_version);
#: the second lists what is under way anywhere on the server, so that it changes with every commit.
_VERSIONS: Final = {
    "sqlite": "PRAGMA data_version",
    "postgresql": "SELECT pg_current_snapshot()::text",
}


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a run's rows were read.

    Attributes:
        sequence: The last row's number. Numbers are given again when the last rows go.
        at: The last row's time.
        rows: How many rows there were up to it.
    """

    sequence: int = -1
    at: float = 0.0
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Tail(Generic[T]):
    """What came to a run's rows since a cursor.

    Attributes:
        rows: The rows behind the cursor, in the order in which they were recorded; all there are
            where `anew`.
        cursor: Where to go on.
        anew: Whether rows before the cursor were taken back, so that what was read is void.
    """

    rows: list[T]
    cursor: Cursor
    anew: bool


class Watcher:
    """Tells whether a catalog changed, in microseconds, whichever process changed it.

    Args:
        session: The catalog; it is closed after this.
    """

    def __init__(self, session: Tails) -> None:
        self._session = session
        self._guard = threading.Lock()
        self._asked: Opened | None = None
        self._connection: Connection | None = None

    def version(self) -> str:
        """Returns a text that is another one after every change; it may change without need."""
        if self._session._watch is not None:
            return repr(self._session._watch())
        database = self._session._database()
        if database.in_memory:
            # Nobody else has it.
            return ""
        with self._guard, translated(self._session.name):
            connection = self._connected(database)
            with connection.begin():
                found = connection.exec_driver_sql(_VERSIONS[connection.dialect.name]).scalar_one()
            return f"{id(database)} {found}"

    def _connected(self, database: Opened) -> Connection:
        """Returns a connection of its own: SQLite tells each one of the others' commits alone."""
        if self._connection is None or self._asked is not database:
            self._disconnect()
            connection = database.engine.connect()
            connection.detach()
            self._asked, self._connection = database, connection
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Gives the connection back; a second call does nothing."""
        with self._guard:
            self._disconnect()


class Tails(Session):
    """Look-ups that begin where the last one ended."""

    def watcher(self) -> Watcher:
        """Returns what tells whether anything changed."""
        return Watcher(self)

    def steps_since(self, run: str, cursor: Cursor) -> Tail[StepRow]:
        """Returns the steps of a run that were recorded behind a cursor."""
        return self._read(lambda connection: _tail(connection, steps, run, cursor, step_of))

    def decisions_since(self, run: str, cursor: Cursor) -> Tail[Decision]:
        """Returns the decisions on a run that were recorded behind a cursor."""
        return self._read(lambda connection: _tail(connection, decisions, run, cursor, decision_of))

    def times_since(self, run: str, cursor: Cursor) -> Tail[SaveTimes]:
        """Returns how long the saves of a run took that were recorded behind a cursor."""
        return self._read(lambda connection: _tail(connection, times, run, cursor, times_of))


def _tail(
    connection: Connection,
    table: Table,
    run: str,
    cursor: Cursor,
    decode: Callable[[Row[Any]], T],
) -> Tail[T]:
    ours, sequence = table.c.run == run, table.c.sequence
    before = select(func.count()).where(ours, sequence <= cursor.sequence)
    last = select(table.c.at).where(ours, sequence == cursor.sequence)
    anew = bool(cursor.rows) and (
        connection.execute(before).scalar_one() != cursor.rows
        or connection.execute(last).scalar_one_or_none() != cursor.at
    )
    start = Cursor() if anew else cursor
    found = connection.execute(
        select(table).where(ours, sequence > start.sequence).order_by(sequence)
    ).all()
    if found:
        start = Cursor(found[-1].sequence, found[-1].at, start.rows + len(found))
    return Tail([decode(row) for row in found], start, anew)
