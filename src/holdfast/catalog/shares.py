"""Which run holds which shard, and what that comes to in bytes: kept up with each write.

A shard is counted once for each run that holds it, once in all, and among a run's ``unique`` bytes
as long as no other run holds it. So the first checkpoint of a run to hold a shard changes the
totals, and so does the last one to go; all others only count up and down.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import BindParameter, Connection, Text, bindparam, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from holdfast.catalog.prepared import Prepared
from holdfast.catalog.schema import holdings, totals

#: The run's name under which the totals of all runs stand; no run can have it.
STORE: Final = ""


@dataclass(slots=True)
class _Change:
    checkpoints: int = 0
    nbytes: int = 0
    stored_nbytes: int = 0
    unique_nbytes: int = 0


@dataclass(slots=True)
class Changes:
    """Changes of totals on their way to the catalog, by the name of the run."""

    _by_run: dict[str, _Change] = field(default_factory=dict)

    def of(self, run: str) -> _Change:
        """Returns what changes for a run."""
        return self._by_run.setdefault(run, _Change())

    def count(self, run: str, *, checkpoints: int, nbytes: int) -> None:
        """Adds checkpoints and their logical bytes to a run's and to all."""
        for name in (run, STORE):
            change = self.of(name)
            change.checkpoints += checkpoints
            change.nbytes += nbytes

    def write(self, connection: Connection) -> None:
        """Adds all of them to what is held."""
        changed = [
            (name, one.checkpoints, one.nbytes, one.stored_nbytes, one.unique_nbytes)
            for name, one in sorted(self._by_run.items())
            if one != _Change()
        ]
        _ADD.many(connection, changed)


def alone(connection: Connection) -> None:
    """Lets one transaction at a time change who holds what, until it ends.

    SQLite has one writer anyhow. In PostgreSQL two that bring the first checkpoints with one shard
    would not see each other, and both call it theirs alone. Called before any row is locked, so
    that none waits for the other's.
    """
    if connection.dialect.name == "postgresql":
        schemas = connection.get_execution_options()["schema_translate_map"]
        _LOCK(connection, schemas[None])


def hold(connection: Connection, run: str, shards: Mapping[str, int], changes: Changes) -> None:
    """Notes that one more checkpoint of a run holds shards.

    Args:
        connection: Where the transaction is.
        run: The run.
        shards: Name to stored bytes.
        changes: Takes what that changes.
    """
    for shard, nbytes in shards.items():
        if _HELD.row(connection, run, shard) is None:
            others = _OTHERS.rows(connection, shard, run)
            changes.of(run).stored_nbytes += nbytes
            if not others:
                changes.of(run).unique_nbytes += nbytes
                changes.of(STORE).stored_nbytes += nbytes
            elif len(others) == 1:
                changes.of(others[0][0]).unique_nbytes -= nbytes
    _HOLD.many(connection, [(run, shard, nbytes, 1) for shard, nbytes in shards.items()])


def release(connection: Connection, run: str, shards: Iterable[str], changes: Changes) -> None:
    """Notes that one checkpoint of a run holds shards no longer; arguments as for `hold`."""
    for shard in shards:
        found = _HELD.row(connection, run, shard)
        if found is None:
            continue
        holders, nbytes = found
        if holders > 1:
            _COUNT_DOWN(connection, run, shard)
            continue
        _DROP(connection, run, shard)
        others = _OTHERS.rows(connection, shard, run)
        changes.of(run).stored_nbytes -= nbytes
        if not others:
            changes.of(run).unique_nbytes -= nbytes
            changes.of(STORE).stored_nbytes -= nbytes
        elif len(others) == 1:
            changes.of(others[0][0]).unique_nbytes += nbytes


def hold_all(
    connection: Connection, run: str, held: Iterable[Mapping[str, int]], *, nbytes: int
) -> None:
    """Notes what all checkpoints of a run hold, of which nothing is held yet.

    What is unique among it is left to `count_unique` in a rebuild, and to `meet_others` else.

    Args:
        connection: Where the transaction is.
        run: The run.
        held: What each of its checkpoints holds: shard name to stored bytes.
        nbytes: Logical bytes of all of them.
    """
    rows: dict[str, list[int]] = {}
    number = 0
    for shards in held:
        number += 1
        for shard, size in shards.items():
            rows.setdefault(shard, [size, 0])[1] += 1
    _HOLD.many(connection, [(run, shard, size, count) for shard, (size, count) in rows.items()])
    changes = Changes()
    changes.count(run, checkpoints=number, nbytes=nbytes)
    changes.of(run).stored_nbytes += sum(size for size, _ in rows.values())
    changes.write(connection)


def meet_others(connection: Connection, run: str, *, coming: bool) -> None:
    """Settles what a whole run changes for the others: it comes, or is about to go."""
    sign = 1 if coming else -1
    changes = Changes()
    for first, last, nbytes in _SHARED_WITH.rows(connection, run):
        if first is None:
            changes.of(run).unique_nbytes += sign * int(nbytes)
            changes.of(STORE).stored_nbytes += sign * int(nbytes)
        elif first == last:
            changes.of(first).unique_nbytes -= sign * int(nbytes)
    changes.write(connection)


def forget(connection: Connection, run: str) -> None:
    """Removes what a run holds and its totals."""
    meet_others(connection, run, coming=False)
    changes = Changes()
    for checkpoints, nbytes in _TOTALS.rows(connection, run):
        changes.count(run, checkpoints=-int(checkpoints), nbytes=-int(nbytes))
    changes.write(connection)
    _FORGET_HOLDINGS(connection, run)
    _FORGET_TOTALS(connection, run)


def count_unique(connection: Connection) -> None:
    """Settles what is unique to whom after a rebuild, in one pass over the index of shards."""
    each = (
        select(
            holdings.c.shard,
            func.count().label("runs"),
            func.max(holdings.c.nbytes).label("nbytes"),
        )
        .group_by(holdings.c.shard)
        .subquery()
    )
    stored = connection.execute(select(func.sum(each.c.nbytes))).scalar_one() or 0
    connection.execute(update(totals).values(unique_nbytes=totals.c.stored_nbytes))
    shared = (
        select(holdings.c.run, func.sum(holdings.c.nbytes))
        .where(holdings.c.shard.in_(select(each.c.shard).where(each.c.runs > 1)))
        .group_by(holdings.c.run)
    )
    changes = Changes()
    for run, nbytes in connection.execute(shared).all():
        changes.of(run).unique_nbytes -= int(nbytes)
    changes.of(STORE).stored_nbytes += int(stored)
    changes.write(connection)


# -- statements --------------------------------------------------------------------------------

_RUN: BindParameter[str] = bindparam("run")
_SHARD: BindParameter[str] = bindparam("shard")
_ONE = (holdings.c.run == _RUN, holdings.c.shard == _SHARD)


def _adding(dialect: str) -> Any:
    statement = (postgresql if dialect == "postgresql" else sqlite).insert(totals)
    added = {
        column.name: column + statement.excluded[column.name]
        for column in totals.columns
        if not column.primary_key
    }
    return statement.on_conflict_do_update(index_elements=["run"], set_=added)


def _holding(dialect: str) -> Any:
    statement = (postgresql if dialect == "postgresql" else sqlite).insert(holdings)
    more = {"holders": holdings.c.holders + statement.excluded.holders}
    return statement.on_conflict_do_update(index_elements=["run", "shard"], set_=more)


def _shared_with(_: str) -> Any:
    mine, theirs = holdings.alias("mine"), holdings.alias("theirs")
    another = (theirs.c.shard == mine.c.shard, theirs.c.run != _RUN)
    each = (
        select(
            select(func.min(theirs.c.run)).where(*another).scalar_subquery().label("first"),
            select(func.max(theirs.c.run)).where(*another).scalar_subquery().label("last"),
            mine.c.nbytes,
        )
        .where(mine.c.run == _RUN)
        .subquery()
    )
    return select(each.c.first, each.c.last, func.sum(each.c.nbytes)).group_by(
        each.c.first, each.c.last
    )


_ADD = Prepared(_adding, *(column.name for column in totals.columns))
_HOLD = Prepared(_holding, *(column.name for column in holdings.columns))
_HELD = Prepared(
    lambda _: select(holdings.c.holders, holdings.c.nbytes).where(*_ONE), "run", "shard"
)
_OTHERS = Prepared(
    lambda _: (
        select(holdings.c.run).where(holdings.c.shard == _SHARD, holdings.c.run != _RUN).limit(2)
    ),
    "shard",
    "run",
)
_COUNT_DOWN = Prepared(
    lambda _: update(holdings).where(*_ONE).values(holders=holdings.c.holders - 1), "run", "shard"
)
_DROP = Prepared(lambda _: delete(holdings).where(*_ONE), "run", "shard")
_SHARED_WITH = Prepared(_shared_with, "run")
_TOTALS = Prepared(
    lambda _: select(totals.c.checkpoints, totals.c.nbytes).where(totals.c.run == _RUN), "run"
)
_FORGET_HOLDINGS = Prepared(lambda _: delete(holdings).where(holdings.c.run == _RUN), "run")
_FORGET_TOTALS = Prepared(lambda _: delete(totals).where(totals.c.run == _RUN), "run")
_LOCK = Prepared(
    lambda _: select(
        func.pg_advisory_xact_lock(func.hashtextextended(bindparam("schema", type_=Text), 1))
    ),
    "schema",
)
