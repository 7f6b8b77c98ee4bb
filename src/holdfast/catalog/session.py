"""Connections, transactions, threads and forks: what every query and every write stands on."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self, TypeVar

from sqlalchemy import Connection

from holdfast.catalog.connection import WRITES, translated
from holdfast.catalog.opening import CatalogState, Opened
from holdfast.catalog.snapshot import Signature
from holdfast.errors import ConfigError, HoldfastError

T = TypeVar("T")

_ATTEMPTS = 5


class _PerThread(threading.local):
    connection: Connection | None = None
    rebuilding: bool = False


class Session:
    """An open catalog without its queries.

    Usable from several threads; a process forked from this one gets its own connections.

    Args:
        name: What messages call it (no password in it).
        opener: Opens the database, each time anew.
        watch: Returns the signature of the files, in read-only mode on a file; else None.
    """

    def __init__(
        self,
        name: str,
        opener: Callable[[], Opened],
        *,
        watch: Callable[[], Signature] | None = None,
    ) -> None:
        self.name = name
        self._opener = opener
        self._watch = watch
        self._guard = threading.Lock()
        self._local = _PerThread()
        self._pid = os.getpid()
        self._opened: Opened | None = opener()
        self._inherited: list[object] = []

    @property
    def state(self) -> CatalogState:
        """What the last opening found; for all but ``ok`` the rows are not there yet."""
        return self._database().state

    @property
    def writable(self) -> bool:
        """Whether writes are taken."""
        return self._database().writable

    def close(self) -> None:
        """Closes the connections and removes a private copy; a second call does nothing."""
        with self._guard:
            opened, self._opened = self._opened, None
            if opened is not None and os.getpid() == self._pid:
                opened.engine.dispose()
                opened.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def reopen(self) -> CatalogState:
        """Opens the database again and returns its state, for example after it was deleted.

        Raises:
            HoldfastError: As `Catalog.open`.
        """
        with self._guard:
            before = self._opened
            self._opened = self._opener()
            if before is not None:
                before.engine.dispose()
                before.release()
            return self._opened.state

    def refresh(self) -> bool:
        """Opens the database again when its files changed, in read-only mode.

        Every query calls this by itself.

        Returns:
            Whether it was opened again.
        """
        if self._watch is None or self._watch() == self._database().seen:
            return False
        self.reopen()
        return True

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Groups the writes of a block into one commit; an exception undoes them all.

        Queries of the same thread see what the block wrote so far. A transaction inside another
        one is part of it.
        """
        with self._writing():
            yield

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        mine = self._mine()
        if mine is not None:
            with translated(self.name):
                yield mine
            return
        database = self._database()
        if not database.writable:
            raise ConfigError(
                f"the catalog {self.name} is open for reading only",
                hint="open the store for writing",
            )
        with translated(self.name), database.engine.connect() as connection:
            writer = connection.execution_options(**{WRITES: True})
            with writer.begin():
                self._local.connection = writer
                try:
                    yield writer
                finally:
                    self._local.connection = None

    def _read(self, query: Callable[[Connection], T]) -> T:
        """Runs a query on one snapshot of the database.

        In read-only mode the file may change under the query: it then runs again on the new one.
        """
        mine = self._mine()
        if mine is not None:
            with translated(self.name):
                return query(mine)
        for _ in range(_ATTEMPTS):
            self.refresh()
            database = self._database()
            try:
                answer = self._ask(database, query)
            except HoldfastError:
                # Another thread may have opened the catalog anew and closed this one meanwhile.
                if not self._changed(database) and self._opened is database:
                    raise
                continue
            if not self._changed(database):
                return answer
        return self._ask(self._database(), query)

    def _ask(self, database: Opened, query: Callable[[Connection], T]) -> T:
        with translated(self.name), database.engine.connect() as connection, connection.begin():
            return query(connection)

    def _changed(self, database: Opened) -> bool:
        # A private copy answers for one moment, whatever happens to the file meanwhile.
        return self._watch is not None and database.shared and self._watch() != database.seen

    def _mine(self) -> Connection | None:
        self._leave_parent()
        return self._local.connection

    def _database(self) -> Opened:
        self._leave_parent()
        opened = self._opened
        if opened is None:
            raise ConfigError(
                f"the catalog {self.name} is closed", hint="open the store again to go on"
            )
        return opened

    def _leave_parent(self) -> None:
        """Gives a forked child connections of its own.

        The parent's are kept, never closed: closing a SQLite connection that another process
        opened can drop that process's locks and take its log away.
        """
        if os.getpid() == self._pid:
            return
        self._inherited += [self._opened, self._local]
        self._pid = os.getpid()
        self._guard = threading.Lock()
        self._local = _PerThread()
        if self._opened is not None and not self._opened.in_memory:
            self._opened = self._opener()
