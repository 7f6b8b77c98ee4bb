"""Engines for the catalog's databases, and the one place where their errors become ours."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from holdfast.errors import (
    ConfigError,
    HoldfastError,
    IntegrityError,
    LockedError,
    StorageFullError,
)

#: How long a statement waits for another process's write before `LockedError`.
BUSY_TIMEOUT_S = 30

#: Set on a connection whose transaction writes. SQLite then takes the write lock at once: a
#: reader that turns writer in the middle fails without waiting when another one was faster.
WRITES = "holdfast_writes"

_REINDEX = "run `holdfast reindex`; checkpoints are not touched by this"


#: A catalog of this process alone, as SQLite spells it.
IN_MEMORY = ":memory:"


def target_of(url_or_path: str | Path) -> Path | URL:
    """Returns where a catalog is: a path for SQLite (or `IN_MEMORY`), a URL for PostgreSQL.

    Raises:
        ConfigError: The URL is of another kind, or names no database file.
    """
    if isinstance(url_or_path, Path) or "://" not in url_or_path:
        return Path(url_or_path)
    try:
        url = make_url(url_or_path)
    except (ArgumentError, ValueError):
        # Not chained: what could not be read may hold a password.
        raise ConfigError(
            "the catalog's URL cannot be read",
            hint="write a path, sqlite:///PATH, or postgresql+psycopg://USER@HOST/DATABASE",
        ) from None
    if url.drivername == "sqlite" and url.database:
        return Path(url.database)
    if url.drivername == "postgresql+psycopg":
        return url
    raise ConfigError(
        f"a catalog cannot be kept in {shown(url)}",
        hint="write a path, sqlite:///PATH, or postgresql+psycopg://USER@HOST/DATABASE",
    )


def shown(url: URL) -> str:
    """Returns a URL for messages: no password, and none of the options, which may hold one."""
    return url.set(query={}).render_as_string(hide_password=True)


def sqlite_engine(path: Path, *, wal: bool = True) -> Engine:
    """Returns an engine that reads and writes a SQLite file, creating it where it is missing.

    Connections come from a pool and may move between threads, one thread at a time each: a saver
    thread writes while the training thread reads.

    Args:
        path: The database file.
        wal: Whether the place can hold a write-ahead log (network file systems cannot).
    """
    uri = f"file:{quote(str(path.absolute()))}"

    def connect() -> sqlite3.Connection:
        connection = _sqlite(uri)
        try:
            _make_durable(connection, wal=wal)
        except BaseException:
            connection.close()
            raise
        return connection

    return _pooled(connect, size=5)


def immutable_engine(path: Path) -> Engine:
    """Returns an engine that reads a SQLite file and leaves no trace beside it."""
    uri = f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"
    return _pooled(lambda: _sqlite(uri), size=5)


def memory_engine() -> Engine:
    """Returns an engine on an empty database in memory.

    One connection for all threads: each connection to ``:memory:`` would be its own database.
    """
    return _pooled(lambda: _sqlite("file::memory:"), size=1)


def postgres_engine(url: URL, *, store_id: str, read_only: bool = False) -> Engine:
    """Returns an engine on a store's own schema in a PostgreSQL database.

    A schema per store, so that the tables and their indexes are the same on both databases, and
    making one store's catalog anew is a matter of its own tables.

    Raises:
        ConfigError: psycopg is not installed.
    """
    options = {"schema_translate_map": {None: schema_of(store_id)}}
    settings = f"-c lock_timeout={BUSY_TIMEOUT_S}s"
    if read_only:
        settings += " -c default_transaction_read_only=on"
    try:
        return create_engine(
            url,
            execution_options=options,
            pool_pre_ping=True,
            connect_args={"options": settings, "connect_timeout": BUSY_TIMEOUT_S},
        )
    except ModuleNotFoundError as error:
        raise ConfigError(
            "a catalog in PostgreSQL needs psycopg, which is not installed",
            hint="pip install 'holdfast[postgres]'",
        ) from error


def schema_of(store_id: str) -> str:
    """Returns the name of a store's schema in PostgreSQL; any text is a store's id."""
    return f"holdfast_{hashlib.sha256(store_id.encode()).hexdigest()[:20]}"


def _sqlite(uri: str) -> sqlite3.Connection:
    # isolation_level=None: transactions begin where we say so, not where the driver guesses.
    connection = sqlite3.connect(
        uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_S * 1000}")
    # A file that somebody else made is not to call functions from its own schema, and its pages
    # are checked before they are used (https://www.sqlite.org/security.html).
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.execute("PRAGMA cell_size_check=ON")
    return connection


def _make_durable(connection: sqlite3.Connection, *, wal: bool) -> None:
    mode = _journal_mode(connection, "WAL" if wal else "TRUNCATE")
    # In WAL mode NORMAL keeps the file sound through a power cut and loses the last commits at
    # most, which the next opening finds by the runs' sync marks. A rollback journal is only
    # sound with FULL.
    connection.execute(f"PRAGMA synchronous={'NORMAL' if mode == 'wal' else 'FULL'}")
    connection.execute("PRAGMA cache_size=-65536")
    connection.execute("PRAGMA temp_store=MEMORY")
    connection.execute("PRAGMA wal_autocheckpoint=4000")


def _journal_mode(connection: sqlite3.Connection, mode: str) -> str:
    """Sets the journal mode and returns the one in force.

    SQLite does not wait for a lock here when two openers change the mode of a new file at once,
    so this does.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            row = connection.execute(f"PRAGMA journal_mode={mode}").fetchone()
            return str(row[0])
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _pooled(connect: Callable[[], sqlite3.Connection], *, size: int) -> Engine:
    engine = create_engine(
        "sqlite://",
        creator=connect,
        poolclass=QueuePool,
        pool_size=size,
        max_overflow=0 if size == 1 else -1,
        pool_timeout=BUSY_TIMEOUT_S,
    )

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Turns errors of the database into ours, naming the catalog.

    Raises:
        IntegrityError: The catalog is damaged, or its tables went away.
        LockedError: Another process held it for longer than `BUSY_TIMEOUT_S`.
        StorageFullError: There is no room for a write.
        ConfigError: It cannot be opened or reached, or may not be written.
        HoldfastError: Anything else that the database refused.
    """
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        original = error.orig if isinstance(error, DBAPIError) else error
        raise _ours(name, original) from error
    except PoolTimeoutError as error:
        raise LockedError(
            f"the catalog {name} has no free connection after {BUSY_TIMEOUT_S} s",
            hint="end the transaction that another thread of this process holds open",
        ) from error


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Turns what Python makes of a damaged database's own words into `IntegrityError`.

    SQLite names the damaged table in its message, and the name may be no text any more.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        raise IntegrityError(
            f"the catalog {name} is damaged: {error}", hint=_REINDEX, path=name
        ) from error


def _ours(name: str, error: BaseException | None) -> HoldfastError:
    if isinstance(error, sqlite3.Error):
        return _from_sqlite(name, error)
    state = str(getattr(error, "sqlstate", "") or "")
    if state in ("55P03", "40P01", "57014"):
        return _locked(name, error)
    if state in ("42P01", "3F000", "XX001", "XX002"):
        return IntegrityError(f"the catalog {name} is incomplete: {error}", hint=_REINDEX)
    if state in ("53100", "53200"):
        return StorageFullError(f"the catalog {name} has no room: {error}", hint="free some space")
    if not state or state[:2] in ("08", "28", "3D", "42", "57"):
        return ConfigError(
            f"the catalog {name} cannot be used: {error}",
            hint="check the address, the user's rights, and that the server runs",
        )
    return HoldfastError(f"the catalog {name} refused: {error}", hint=_REINDEX)


def _from_sqlite(name: str, error: sqlite3.Error) -> HoldfastError:
    # The low byte is the primary code; what stands above says more than is needed here.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or "UTF-8" in str(error):
        return IntegrityError(f"the catalog {name} is damaged: {error}", hint=_REINDEX, path=name)
    if "no such table" in str(error) or "no such column" in str(error):
        return IntegrityError(f"the catalog {name} is incomplete: {error}", hint=_REINDEX)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return _locked(name, error)
    if code == sqlite3.SQLITE_FULL:
        return StorageFullError(f"the catalog {name} has no room: {error}", hint="free some space")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return ConfigError(
            f"the catalog {name} cannot be opened for this: {error}",
            hint="check that its folder exists and that you may write there, or open for reading",
        )
    return HoldfastError(f"the catalog {name} failed: {error}", hint=_REINDEX)


def _locked(name: str, error: BaseException | None) -> LockedError:
    return LockedError(
        f"the catalog {name} stayed locked for {BUSY_TIMEOUT_S} s: {error}",
        hint="wait for the process that writes it, or end that process",
    )
