"""The catalog: an index of runs and checkpoints that can be lost without harm."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from holdfast.catalog.connection import IN_MEMORY, shown, target_of
from holdfast.catalog.opening import open_file, open_in_memory, open_postgres, open_snapshot
from holdfast.catalog.queries import Queries
from holdfast.catalog.snapshot import signature
from holdfast.catalog.tails import Tails
from holdfast.catalog.timeline import Timeline
from holdfast.catalog.writes import Writes


class Catalog(Queries, Timeline, Tails, Writes):
    """An open catalog: look-ups (`Queries`, `Timeline`) and what it is told (`Writes`).

    It holds no fact alone. When `state` is not ``ok`` after opening, its rows are missing, and
    the opener gives them back with `replace_run` for each run.
    """

    @classmethod
    def open(
        cls,
        url_or_path: str | Path,
        *,
        store_id: str,
        read_only: bool = False,
        wal: bool = True,
    ) -> Self:
        """Opens a catalog, and makes one where there is none that can be used.

        Args:
            url_or_path: A path or ``sqlite:///PATH``, or ``postgresql+psycopg://...``; several
                stores may share a PostgreSQL database. ``:memory:`` is an empty catalog that is
                gone when it is closed, and takes writes in any mode.
            store_id: Id of the store whose catalog it is.
            read_only: Write nothing, beside the file neither. Where there is no usable catalog,
                an empty one in memory stands in, which `replace_run` may fill.
            wal: Whether the place can hold SQLite's write-ahead log.

        Raises:
            ConfigError: The place cannot be read, written or reached.
            LockedError: Another process holds it for too long.
        """
        target = target_of(url_or_path)
        if not isinstance(target, Path):
            return cls(
                shown(target), lambda: open_postgres(target, store_id=store_id, read_only=read_only)
            )
        if str(target) == IN_MEMORY:
            return cls(IN_MEMORY, lambda: open_in_memory(store_id=store_id))
        if read_only:
            return cls(
                target.name,
                lambda: open_snapshot(target, store_id=store_id),
                watch=lambda: signature(target),
            )
        return cls(target.name, lambda: open_file(target, store_id=store_id, wal=wal))
