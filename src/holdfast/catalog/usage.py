"""How many bytes checkpoints take: a shard that several hold is counted once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, case, func, select

from holdfast.catalog.schema import checkpoints, holdings, runs


@dataclass(frozen=True, slots=True)
class RunUsage:
    """What a run's checkpoints take.

    Attributes:
        checkpoints: How many there are.
        nbytes: Logical bytes: as if nothing were shared.
        stored_nbytes: Bytes of the distinct shards that they hold.
        unique_nbytes: Bytes of the shards that no other run holds: freed when the run goes.
    """

    checkpoints: int = 0
    nbytes: int = 0
    stored_nbytes: int = 0
    unique_nbytes: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """What all checkpoints take.

    Attributes:
        runs: Name of a run to what it takes; runs without checkpoints included.
        stored_nbytes: Bytes of the distinct shards of all runs.
    """

    runs: Mapping[str, RunUsage]
    stored_nbytes: int


def usage_of(connection: Connection) -> Usage:
    """Returns what the checkpoints take.

    Reads and groups every row: milliseconds for hundreds of checkpoints, seconds for a million.
    """
    counted = {
        row.run: (row.checkpoints, int(row.nbytes))
        for row in connection.execute(
            select(
                checkpoints.c.run,
                func.count().label("checkpoints"),
                func.sum(checkpoints.c.nbytes).label("nbytes"),
            ).group_by(checkpoints.c.run)
        )
    }
    distinct = (
        select(holdings.c.run, func.max(holdings.c.nbytes).label("nbytes"))
        .group_by(holdings.c.run, holdings.c.shard)
        .subquery()
    )
    stored = select(distinct.c.run, func.sum(distinct.c.nbytes)).group_by(distinct.c.run)
    stored_nbytes = {run: int(nbytes) for run, nbytes in connection.execute(stored)}
    # One run alone holds a shard where the first of its runs is the last, too.
    held = (
        select(
            func.min(holdings.c.run).label("first"),
            func.max(holdings.c.run).label("last"),
            func.max(holdings.c.nbytes).label("nbytes"),
        )
        .group_by(holdings.c.shard)
        .subquery()
    )
    alone = case((held.c.first == held.c.last, held.c.nbytes), else_=0)
    totals = select(held.c.first, func.sum(held.c.nbytes), func.sum(alone)).group_by(held.c.first)
    unique_nbytes: dict[str, int] = {}
    total = 0
    for run, nbytes, unique in connection.execute(totals):
        total += int(nbytes)
        unique_nbytes[run] = int(unique)
    per_run = {}
    for name in sorted({*connection.execute(select(runs.c.name)).scalars(), *counted}):
        count, nbytes = counted.get(name, (0, 0))
        per_run[name] = RunUsage(
            count, nbytes, stored_nbytes.get(name, 0), unique_nbytes.get(name, 0)
        )
    return Usage(per_run, total)
