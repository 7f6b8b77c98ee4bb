"""Values as people read them, on every face: ages, times, sizes, numbers. Pure text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

_UNITS = ("B", "kB", "MB", "GB", "TB")
_KILO = 1000
_MINUTE = 60
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
_JUST_NOW_S = 2
_OLD_DAYS = 60
_TINY, _HUGE = 1e-3, 1e6


def nbytes_text(nbytes: float) -> str:
    """Returns a number of bytes in decimal units, as the library's log writes it: ``1.8GB``."""
    value = float(nbytes)
    for unit in _UNITS[:-1]:
        if abs(value) < _KILO:
            return f"{value:.0f}{unit}" if unit == "B" else f"{value:.1f}{unit}"
        value /= _KILO
    return f"{value:.1f}{_UNITS[-1]}"


def age(created_at: float, *, now: float) -> str:
    """Returns how long ago a moment was: ``3 min ago``; a date when it was more than 60 days.

    Args:
        created_at: Seconds since the epoch, UTC.
        now: The same, of the present.
    """
    seconds = now - created_at
    if seconds < _JUST_NOW_S:
        # A clock that was set back must not show ages below zero.
        return "just now"
    for limit, unit, name in ((_MINUTE, 1, "s"), (_HOUR, _MINUTE, "min"), (_DAY, _HOUR, "h")):
        if seconds < limit:
            return f"{int(seconds // unit)} {name} ago"
    days = int(seconds // _DAY)
    return f"{days} d ago" if days <= _OLD_DAYS else moment(created_at)[:10]


def seconds_text(seconds: float) -> str:
    """Returns a length of time in words: ``0.4 s``, ``12 s``, ``3 min 5 s``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def moment(at: float) -> str:
    """Returns a time as ``2026-01-31 12:00:00 UTC``."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def number(value: float | None) -> str:
    """Returns a metric's value: four decimals where they say enough; ``-`` for None."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if value == 0 or _TINY <= abs(value) < _HUGE:
        return f"{value:.0f}" if value.is_integer() and abs(value) > 1 else f"{value:.4f}"
    return f"{value:.3e}"


def count(n: int, singular: str, plural: str | None = None) -> str:
    """Returns a count with its noun: ``1 checkpoint``, ``2 checkpoints``."""
    return f"{n:,} {singular if n == 1 else plural or singular + 's'}"


def metrics_text(metrics: Mapping[str, float]) -> str:
    """Returns metrics on one line: ``loss 0.2340, accuracy 0.7850``."""
    return ", ".join(f"{name} {number(value)}" for name, value in metrics.items())


def printable(text: str, *, lines: bool = False) -> str:
    """Returns text from a store with control characters escaped: it must drive no terminal.

    What is not printable in Unicode is escaped, too: marks that turn the direction of writing, and
    characters that cannot be seen.

    Args:
        text: The text.
        lines: Whether it may have several lines; else a line feed is escaped like the others, so
            that no value looks like a line of its own.
    """
    return "".join(
        char if char.isprintable() or (lines and char == "\n") else ascii(char)[1:-1]
        for char in text
    )


def shortened(text: str, most: int) -> str:
    """Returns a text of at most so many characters; its middle gives way to ``…``."""
    if len(text) <= most:
        return text
    kept = max(most - 1, 1)
    head = (kept + 1) // 2
    return f"{text[:head]}…{text[len(text) - (kept - head) :]}"


def iso(at: float) -> str:
    """Returns a time as ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def strict(value: object) -> object:
    """Returns a value with NaN and infinities as text, for JSON has no such numbers.

    They read ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``, as in the store's own files.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): strict(inner) for key, inner in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return [strict(inner) for inner in value]
    return value
