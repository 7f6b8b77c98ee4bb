"""The rows of docs/performance.md, and what is measured for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import phases, rows_calls, rows_catalog, rows_loop, rows_memory, rows_stored, rows_timed
from bench.measure import Samples, reason
from bench.results import Table
from bench.targets import LARGE

#: What `--only` takes.
ROWS = (
    "blocked", "durable", "restore", "stored", "step", "import", "memory", "loop", "catalog",
    "profile",
)  # fmt: skip

FEW = 200
MANY = 10_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure.

    Attributes:
        rows: Some of `ROWS`.
        sizes: Bytes of the states.
        many_sizes: Bytes of the states that are made of many small tensors.
        repeats: Of each save and restore up to 200 MB; larger ones get fewer.
        tiny: Whether only correctness is wanted.
        checkpoints: In the catalogue.
        folder: Where to write.
    """

    rows: frozenset[str]
    sizes: Sequence[int]
    many_sizes: Sequence[int]
    repeats: int
    tiny: bool
    checkpoints: int
    folder: Path

    def shapes(self) -> list[tuple[int, int]]:
        """Returns bytes and number of tensors of each state, small ones first."""
        few, many = (20, 200) if self.tiny else (FEW, MANY)
        return [(size, few) for size in self.sizes] + [(size, many) for size in self.many_sizes]

    def repeats_at(self, nbytes: int) -> int:
        """Returns how often a state of a size is saved or restored."""
        return self.repeats if nbytes <= 250_000_000 else max(2, (self.repeats + 1) // 2)


Tick = Callable[[str], object]
Work = Callable[[Tick], list[Table]]


def jobs(plan: Plan) -> Iterator[tuple[str, str, Work]]:
    """Yields row, title and work of everything that a plan asks for."""
    folder, tiny = plan.folder, plan.tiny
    figures = frozenset(plan.rows & {"blocked", "durable"})
    for nbytes, tensors in plan.shapes():
        how = {"nbytes": nbytes, "tensors": tensors, "repeats": plan.repeats_at(nbytes)}
        label = f"{nbytes / 1e6:,.0f} MB in {tensors:,}"
        if figures:
            yield (
                "durable" if "durable" in figures else "blocked",
                f"save {label}",
                _save(folder, figures, how),
            )
        if "restore" in plan.rows:
            yield "restore", f"restore {label}", _restore(folder, how)
    # Each way of this row starts an interpreter that imports torch.
    few = {"names": ("holdfast", "torch.save + fsync")} if tiny else {}
    single: dict[str, Work] = {
        "stored": lambda tick: rows_stored.stored(
            folder, nbytes=2_000_000 if tiny else 50_000_000, tick=tick
        ),
        "step": lambda tick: rows_calls.stepping(folder, calls=200 if tiny else 20_000, tick=tick),
        "import": lambda tick: rows_calls.importing(repeats=2 if tiny else 15, tick=tick),
        "memory": lambda tick: rows_memory.extra_memory(
            folder, nbytes=4_000_000 if tiny else 1 << 30, tick=tick, **few
        ),
        "loop": lambda tick: rows_loop.looping(
            folder, tiny=tiny, rounds=1 if tiny else 2, tick=tick
        ),
        "catalog": lambda tick: rows_catalog.catalogue(
            folder, tiny=tiny, checkpoints=plan.checkpoints, tick=tick
        ),
    }
    for nbytes, tensors in plan.shapes():
        how = {"nbytes": nbytes, "tensors": tensors, "repeats": plan.repeats_at(nbytes)}
        if "profile" in plan.rows and (tiny or nbytes >= LARGE):
            yield "profile", f"profile {nbytes / 1e6:,.0f} MB", _profile(folder, how)
    for row, work in single.items():
        if row in plan.rows:
            yield row, row, work


def run(row: str, title: str, work: Work, tick: Tick) -> list[Table]:
    """Returns the tables of one job; of one that failed, a table that says why."""
    try:
        return work(tick)
    except Exception as error:  # noqa: BLE001 - one row's failure must not cost the others
        failed = Samples("all ways", limit=False, values=(), error=reason(error))
        return [Table(row, title, "", (failed,))]


def _save(folder: Path, figures: frozenset[str], how: dict[str, int]) -> Work:
    return lambda tick: rows_timed.saving(folder, figures=figures, tick=tick, **how)


def _profile(folder: Path, how: dict[str, int]) -> Work:
    return lambda tick: phases.profiles(folder, tick=tick, **how)


def _restore(folder: Path, how: dict[str, int]) -> Work:
    return lambda tick: rows_timed.restoring(folder, tick=tick, **how)
