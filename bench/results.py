"""What was measured, as values that are shown, drawn and stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from bench.measure import Samples

Unit = Literal["ms", "µs", "states", "x state", "% slower", ""]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One target, and what was found.

    Attributes:
        target: What it should come to.
        found: What it came to; "" where nothing was measured.
        met: None where it cannot be said.
    """

    target: str
    found: str
    met: bool | None


@dataclass(frozen=True, slots=True)
class Table:
    """One row of docs/performance.md, at one size.

    Attributes:
        row: Which: a name of `bench.rows.ROWS`.
        title: What the ways do.
        unit: Of what the ways came to.
        ways: All of them, failed ones, too.
        verdicts: Its targets.
        nbytes: Bytes moved, for a column of GB/s; 0 where that means nothing.
        tensors: How many the state has; 0 where that means nothing.
        notes: What a reader must know.
    """

    row: str
    title: str
    unit: Unit
    ways: tuple[Samples, ...]
    verdicts: tuple[Verdict, ...] = ()
    nbytes: int = 0
    tensors: int = 0
    notes: tuple[str, ...] = ()

    @property
    def limit(self) -> float | None:
        """The best median of what is the machine's own limit."""
        found = [way.median for way in self.ways if way.limit and way.median is not None]
        return min(found, default=None)

    def median(self, name: str) -> float | None:
        """Returns what a way came to."""
        return next((way.median for way in self.ways if way.name == name), None)


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run of the benchmark."""

    machine: Mapping[str, str]
    tables: tuple[Table, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Report:
        """Returns what `to_json` made values of."""
        return cls(dict(data["machine"]), tuple(_table(one) for one in data["tables"]))


def _table(data: Mapping[str, Any]) -> Table:
    made = Table(**{**data, "ways": (), "verdicts": (), "notes": tuple(data["notes"])})
    ways = tuple(Samples(**{**way, "values": tuple(way["values"])}) for way in data["ways"])
    return replace(made, ways=ways, verdicts=tuple(Verdict(**one) for one in data["verdicts"]))


def scaled(ways: Iterable[Samples], factor: float) -> tuple[Samples, ...]:
    """Returns the same in another unit."""
    return tuple(replace(way, values=tuple(value * factor for value in way.values)) for way in ways)


def size_name(nbytes: int) -> str:
    """Returns a size as people say it."""
    for unit, name in ((2**30, "GiB"), (10**6, "MB"), (10**3, "KB")):
        if nbytes >= unit * 0.99:
            return f"{nbytes / unit:.3g} {name}"
    return f"{nbytes} B"


def unjudged(table: Table) -> Table:
    """Returns the same with no word on whether targets were met: a tiny run says nothing on it."""
    verdicts = tuple(replace(verdict, met=None) for verdict in table.verdicts)
    return replace(table, verdicts=verdicts)
