"""The rows that are times of one save or one restore, at each size and shape."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench import targets, ways_restore, ways_save
from bench.measure import Samples, interleave, settle_disk
from bench.results import Table, Verdict, scaled, size_name
from bench.states import State, shape_name

_COPIES = (ways_save.MEMCPY, ways_save.ALONE)
_SYNCED = ("Every file and folder is synced, by the benchmark where the tool does not do it.",)


def saving(
    folder: Path,
    *,
    nbytes: int,
    tensors: int,
    repeats: int,
    figures: frozenset[str],
    tick: Callable[[str], object],
) -> list[Table]:
    """Measures saves; `figures` are "blocked", "durable" or both."""
    state = State(nbytes, tensors)
    with tempfile.TemporaryDirectory(dir=folder) as inner:
        makers = ways_save.makers(Path(inner), state, figures=figures)
        taken = interleave(makers, repeats=repeats, before=settle_disk, tick=tick)
    tables = []
    if "blocked" in figures:
        shown = tuple(way for way in taken.get("blocked", ()) if _blocks(way))
        tables.append(
            _table("blocked", "training blocked by a save", state, shown, targets.blocked)
        )
    if "durable" in figures:
        shown = tuple(way for way in taken.get("durable", ()) if way.name not in _COPIES)
        behind = [way for way in taken.get("behind", ()) if way.name == ways_save.OURS]
        shown += tuple(replace(way, name=ways_save.BEHIND) for way in behind)
        tables.append(
            _table("durable", "save until durable", state, shown, targets.durable, notes=_SYNCED)
        )
    return tables


def _blocks(way: Samples) -> bool:
    """Whether a way stands in the table of stalls, were it only for having failed."""
    if way.name in (ways_save.CLEANING, ways_save.DIRECT, ways_save.BUFFERED):
        return False
    return bool(way.values) or way.name not in ways_save.PEERS or "async" in way.name


def restoring(
    folder: Path, *, nbytes: int, tensors: int, repeats: int, tick: Callable[[str], object]
) -> list[Table]:
    """Measures restores into live tensors."""
    state, live = State(nbytes, tensors), State(nbytes, tensors, seed=1)
    with tempfile.TemporaryDirectory(dir=folder) as inner:
        makers = ways_restore.makers(Path(inner), state, live)
        taken = interleave(makers, repeats=repeats, before=settle_disk, tick=tick)
    cold_note = "Dropped from the page cache before each repeat; mincore(2) agreed that it was."
    return [
        _table("warm", "restore, warm cache", state, taken.get("warm", ()), targets.warm),
        _table(
            "cold", "restore, cold cache", state, taken.get("cold", ()), targets.cold,
            notes=(cold_note,),
        ),
    ]  # fmt: skip


def _table(
    row: str,
    title: str,
    state: State,
    ways: tuple[Samples, ...],
    judge: Callable[[Table], tuple[Verdict, ...]],
    *,
    notes: tuple[str, ...] = (),
) -> Table:
    count = len(state.tensors)
    table = Table(
        row=row,
        title=f"{title}, {size_name(state.nbytes)} in {shape_name(count)}",
        unit="ms",
        ways=scaled(ways, 1e3),
        nbytes=state.nbytes,
        tensors=count,
        notes=notes,
    )
    return replace(table, verdicts=judge(table))
