"""Opening a catalog: what state it is in, and a fresh one where it cannot be used.

Losing a catalog is harmless, so nothing is repaired here: what is damaged is moved aside, what is
outdated or another store's is dropped, and the opener is told to rebuild.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy import (
    Connection,
    Engine,
    MetaData,
    Table,
    func,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.engine import URL
from sqlalchemy.schema import CreateSchema

from holdfast.catalog import schema
from holdfast.catalog.connection import (
    WRITES,
    immutable_engine,
    memory_engine,
    postgres_engine,
    readable,
    schema_of,
    shown,
    sqlite_engine,
    translated,
)
from holdfast.catalog.snapshot import Signature, copy_of, needs_copy, signature
from holdfast.errors import ConfigError, IntegrityError

#: ``ok``: usable as it is. ``empty``: created now. ``outdated``: another schema version.
#: ``damaged``: not a sound database. ``foreign``: another store's. All but ``ok`` need a rebuild.
CatalogState = Literal["ok", "empty", "outdated", "damaged", "foreign"]

#: Up to this size a file is checked in full when it is opened (some 10 ms); beyond it damage is
#: met by the query that reads it.
_QUICK_CHECK_NBYTES = 4_000_000
_MAGIC = b"SQLite format 3\x00"


def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Opened:
    """A catalog's open database.

    Attributes:
        engine: Where its statements go.
        state: What was found.
        writable: Whether writes are taken. A database in memory takes them in read-only mode
            too: it is nobody else's.
        seen: What its files looked like, in read-only mode.
        shared: Whether other processes may change what is read while it is read.
        in_memory: Whether it lives in this process alone.
        release: Gives back what the opening took besides the engine.
    """

    engine: Engine
    state: CatalogState
    writable: bool
    seen: Signature | None = None
    shared: bool = True
    in_memory: bool = False
    release: Callable[[], None] = _nothing


def open_file(path: Path, *, store_id: str, wal: bool) -> Opened:
    """Opens a SQLite catalog for writing, with a fresh one in place of one that is damaged.

    Raises:
        ConfigError: The file cannot be created or written.
        LockedError: Another process holds it for too long.
    """
    found: os.stat_result | None = None
    try:
        with translated(path.name), readable(path.name):
            found = _stat(path)
            _check_header(path)
            engine = sqlite_engine(path, wal=wal)
            return Opened(engine, _prepare(engine, store_id, small=_small(path)), writable=True)
    except IntegrityError:
        _set_aside(path, found)
    with translated(path.name):
        engine = sqlite_engine(path, wal=wal)
        _prepare(engine, store_id, small=False)
        return Opened(engine, "damaged", writable=True)


def open_snapshot(path: Path, *, store_id: str) -> Opened:
    """Opens a SQLite catalog for reading, without a write of any kind beside it.

    Where it is missing or cannot be used, an empty database in memory stands in for it.

    Raises:
        LockedError: It changed during each of several attempts to copy it.
    """
    seen = signature(path)
    if seen.missing:
        return _in_memory(store_id, "empty", seen)
    state: CatalogState = "damaged"
    release = _nothing
    with contextlib.ExitStack() as undo:
        with (
            contextlib.suppress(IntegrityError),
            translated(path.name),
            readable(path.name),
        ):
            _check_header(path)
            shared = not needs_copy(path)
            if shared:
                engine = immutable_engine(path)
            else:
                copied, release = copy_of(path)
                undo.callback(release)
                engine = sqlite_engine(copied)
            undo.callback(engine.dispose)
            with engine.connect() as connection:
                state = _diagnose(connection, store_id, small=_small(path))
        if state != "ok":
            return _in_memory(store_id, state, seen)
        undo.pop_all()
    return Opened(engine, state, writable=False, seen=seen, shared=shared, release=release)


def open_in_memory(*, store_id: str) -> Opened:
    """Opens an empty catalog that is gone when it is closed."""
    return _in_memory(store_id, "empty", None)


def open_postgres(url: URL, *, store_id: str, read_only: bool) -> Opened:
    """Opens a store's schema in a PostgreSQL database, creating it where it is missing.

    Raises:
        ConfigError: psycopg is missing, the server cannot be reached, or it refuses the user.
    """
    engine = postgres_engine(url, store_id=store_id, read_only=read_only)
    with translated(shown(url)):
        if not read_only:
            return Opened(engine, _prepare(engine, store_id, small=False), writable=True)
        with engine.connect() as connection:
            state = _diagnose(connection, store_id, small=False)
    if state == "ok":
        return Opened(engine, state, writable=False)
    engine.dispose()
    return _in_memory(store_id, state, None)


def _in_memory(store_id: str, state: CatalogState, seen: Signature | None) -> Opened:
    engine = memory_engine()
    _prepare(engine, store_id, small=False)
    return Opened(engine, state, writable=True, seen=seen, shared=False, in_memory=True)


def _prepare(engine: Engine, store_id: str, *, small: bool) -> CatalogState:
    """Returns a database's state, and makes its tables anew where they cannot be used."""
    try:
        with engine.connect() as connection:
            state = _diagnose(connection, store_id, small=small)
        if state != "ok":
            with engine.connect() as connection:
                writer = connection.execution_options(**{WRITES: True})
                with writer.begin():
                    _make_anew(writer, store_id)
    except BaseException:
        engine.dispose()
        raise
    return state


def _diagnose(connection: Connection, store_id: str, *, small: bool) -> CatalogState:
    names = set(_our_tables(connection))
    if not names:
        return "empty"
    if schema.meta.name not in names:
        return "outdated"
    found = {row.key: row.value for row in connection.execute(select(schema.meta))}
    if found.get("schema_version") != schema.SCHEMA_VERSION:
        return "outdated"
    if not names >= {table.name for table in schema.metadata.tables.values()}:
        return "outdated"
    if found.get("store_id") != store_id:
        return "foreign"
    if connection.dialect.name == "sqlite" and _alien(connection):
        raise IntegrityError("the catalog holds triggers or views, which are not Holdfast's")
    if small:
        problems = connection.execute(text("PRAGMA quick_check(1)")).scalars().all()
        if problems != ["ok"]:
            raise IntegrityError(f"the catalog is damaged: {problems[0]}")
    return "ok"


def _alien(connection: Connection) -> bool:
    """Returns whether a file has statements of its own, which our reads and writes would run."""
    asked = "SELECT count(*) FROM sqlite_master WHERE type IN ('trigger', 'view')"
    return bool(connection.execute(text(asked)).scalar())


def _make_anew(connection: Connection, store_id: str) -> None:
    """Drops our tables and creates them; whoever comes second finds the first one's and stops."""
    if connection.dialect.name == "postgresql":
        lock = func.hashtextextended(schema_of(store_id), 0)
        connection.execute(select(func.pg_advisory_xact_lock(lock)))
        connection.execute(CreateSchema(schema_of(store_id), if_not_exists=True))
    if _diagnose(connection, store_id, small=False) == "ok":
        return
    for name in _our_tables(connection):
        Table(name, MetaData()).drop(connection)
    schema.metadata.create_all(connection)
    connection.execute(
        insert(schema.meta),
        [
            {"key": "schema_version", "value": schema.SCHEMA_VERSION},
            {"key": "store_id", "value": store_id},
        ],
    )


def _our_tables(connection: Connection) -> list[str]:
    options = connection.get_execution_options()
    where = dict(options.get("schema_translate_map", {})).get(None)
    names = inspect(connection).get_table_names(schema=where)
    return [name for name in names if name.startswith(schema.PREFIX)]


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _small(path: Path) -> bool:
    found = _stat(path)
    return found is not None and 0 < found.st_size <= _QUICK_CHECK_NBYTES


def _check_header(path: Path) -> None:
    """Raises `IntegrityError` for a file that cannot be a database; a missing one passes."""
    found = _stat(path)
    if found is not None and not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        # Opening a pipe would wait for a writer; a folder is refused by the system.
        raise ConfigError(
            f"the catalog {path.name} is not a regular file", hint="remove it: it is made anew"
        )
    try:
        with path.open("rb") as file:
            head = file.read(len(_MAGIC))
    except FileNotFoundError:
        head = b""
    except OSError as error:
        raise ConfigError(
            f"the catalog {path.name} cannot be read: {error.strerror}",
            hint="check that the path is a file and that you may read it",
        ) from error
    if head and head != _MAGIC:
        raise IntegrityError(f"the catalog {path.name} is not a SQLite file", path=path.name)


def _set_aside(path: Path, found: os.stat_result | None) -> None:
    """Moves a damaged file to ``NAME.damaged-<n>``, and what stands beside it along with it."""
    present = _stat(path)
    if found is not None and present is not None and present.st_ino != found.st_ino:
        return  # another process was faster, and this is its new one
    number = 1
    while _stat(Path(f"{path}.damaged-{number}")) is not None:
        number += 1
    # The logs first: one that is left beside a new file would be played into it.
    for ending in ("-wal", "-shm", "-journal", ""):
        source = Path(f"{path}{ending}")
        try:
            source.rename(f"{path}.damaged-{number}{ending}")
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ConfigError(
                f"the damaged catalog {path.name} cannot be moved aside: {error.strerror}",
                hint="check that you may write in its folder",
            ) from error
