"""How many bytes checkpoints take: a shard that several hold is counted once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, select

from holdfast.catalog.schema import runs, totals
from holdfast.catalog.shares import STORE


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
    """Returns what the checkpoints take: as many rows are read as there are runs."""
    everything = connection.execute(select(totals)).all()
    found = {run: RunUsage(*map(int, numbers)) for run, *numbers in everything}
    store = found.pop(STORE, RunUsage())
    known = connection.execute(select(runs.c.name)).scalars().all()
    counted = (run for run, usage in found.items() if usage.checkpoints)
    names = sorted({*known, *counted})
    return Usage({name: found.get(name, RunUsage()) for name in names}, store.stored_nbytes)
