"""What each row should come to, and whether it did; the machine's limit is part of most."""

from __future__ import annotations

from bench import ways_restore, ways_save
from bench.results import Table, Verdict

#: Targets that name a speed are for states from this size on.
LARGE = 100_000_000
#: A save of this size has targets of its own.
SMALL = 10_000_000


def blocked(table: Table) -> tuple[Verdict, ...]:
    """How long training waits for a save."""
    ours, copy = table.median(ways_save.OURS), table.limit
    overlapped = table.median(ways_save.OVERLAP)
    verdicts = []
    if table.nbytes >= LARGE:
        verdicts = [
            _ratio("1.1 x one memory copy", ours, copy, 1.1),
            _absolute("overlapped: 5 ms", overlapped, 5.0, "ms"),
        ]
    elif _is_small(table):
        verdicts = [_absolute("1 ms", ours, 1.0, "ms")]
    return tuple(verdicts)


def durable(table: Table) -> tuple[Verdict, ...]:
    """How long until a save is durable."""
    ours = table.median(ways_save.OURS)
    if table.nbytes >= LARGE:
        direct, behind = table.median(ways_save.DIRECT), table.median(ways_save.BEHIND)
        return (
            _speed("0.95 x the speed of a raw O_DIRECT write, copy included", ours, direct, 0.95),
            _speed("the same, from when training goes on", behind, direct, 0.95),
            _speed("1.25 x the speed of the best peer", ours, _best_peer(table), 1.25),
        )
    return (_absolute("8 ms", ours, 8.0, "ms"),) if _is_small(table) else ()


def warm(table: Table) -> tuple[Verdict, ...]:
    """A restore, from a warm cache."""
    if table.nbytes < LARGE:
        return ()
    ours = table.median(ways_restore.OURS)
    needed = table.nbytes / 9.7e6
    return (
        _absolute(f"9.7 GB/s, verified ({needed:.0f} ms)", ours, needed, "ms"),
        _speed("1.25 x the speed of the best peer", ours, _best_peer(table), 1.25),
    )


def cold(table: Table) -> tuple[Verdict, ...]:
    """A restore, from a cold cache."""
    if table.nbytes < LARGE:
        return ()
    ours = table.median(ways_restore.OURS)
    return (_speed("1.25 x the speed of the best peer, verified", ours, _best_peer(table), 1.25),)


def at_most(target: str, found: float | None, bound: float, unit: str) -> Verdict:
    """Returns the verdict on a plain bound."""
    return _absolute(target, found, bound, unit)


def _is_small(table: Table) -> bool:
    return abs(table.nbytes - SMALL) < SMALL / 10 and table.tensors <= 1000


def _best_peer(table: Table) -> float | None:
    found = [
        way.median
        for way in table.ways
        if way.median is not None and not way.limit and not way.name.startswith("holdfast")
    ]
    return min(found, default=None)


def _absolute(target: str, found: float | None, bound: float, unit: str) -> Verdict:
    if found is None:
        return Verdict(target, "", None)
    return Verdict(target, f"{found:.3g} {unit}", found <= bound)


def _ratio(target: str, found: float | None, of: float | None, bound: float) -> Verdict:
    if found is None or not of:
        return Verdict(target, "", None)
    return Verdict(target, f"{found / of:.2f} x", found / of <= bound)


def _speed(target: str, found: float | None, other: float | None, bound: float) -> Verdict:
    if not found or other is None:
        return Verdict(target, "", None)
    return Verdict(target, f"{other / found:.2f} x", other / found >= bound)
