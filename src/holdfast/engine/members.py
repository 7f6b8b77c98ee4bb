"""Members of parsed JSON as the values that they must be.

What is wrong with one is raised as Python's own `TypeError` or `ValueError`: whoever reads the file
names it.
"""

from __future__ import annotations

from typing import Final, TypeVar, cast

T = TypeVar("T")

#: What an index can hold, and a calendar show.
_INTEGERS: Final = 1 << 63
_YEAR_10000: Final = 253_402_300_800.0


def typed(value: object, kind: type[T]) -> T:
    """Returns a value of exactly this class: `True` is no integer."""
    if type(value) is not kind:
        raise TypeError(f"{value!r:.40} is not {kind.__name__}")
    return value


def optional(value: object, kind: type[T]) -> T | None:
    """Returns a value of exactly this class, or None."""
    return None if value is None else typed(value, kind)


def integer(value: object) -> int:
    """Returns an integer of 64 bits."""
    number = typed(value, int)
    if not -_INTEGERS <= number < _INTEGERS:
        raise ValueError("an integer does not fit into 64 bits")
    return number


def size(value: object) -> int:
    """Returns an integer of 64 bits from 0 on."""
    number = integer(value)
    if number < 0:
        raise ValueError(f"{number} is negative")
    return number


def moment(value: object) -> float:
    """Returns a time: seconds since the epoch, before the year 10000."""
    if type(value) not in (int, float):
        raise TypeError(f"{value!r:.40} is no time")
    seconds = float(cast("float", value))
    if not 0 <= seconds < _YEAR_10000:
        raise ValueError(f"{seconds} is no time")
    return seconds


def text_list(value: object) -> tuple[str, ...]:
    """Returns a list of texts."""
    return tuple(typed(part, str) for part in typed(value, list))
