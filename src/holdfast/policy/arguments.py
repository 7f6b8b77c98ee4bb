"""Checks of what a policy is made with: the error comes where the mistake stands."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from numbers import Real
from typing import SupportsIndex

from holdfast.errors import ConfigError


def count(value: object, name: str, *, asker: str, least: int = 1, hint: str = "") -> int:
    """Returns a count; bools and floats are none.

    Raises:
        ConfigError: It is not an integer, or it is below `least`.
    """
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise ConfigError(
            f"{asker}: {name}={value!r} is {type(value).__name__}, not a count",
            hint=f"pass an int of at least {least}",
        )
    number = operator.index(value)
    if number < least:
        raise ConfigError(
            f"{asker}: {name}={number} is below {least}",
            hint=hint or f"pass an int of at least {least}",
        )
    return number


def real(value: object, name: str, *, asker: str) -> float:
    """Returns a finite number.

    Raises:
        ConfigError: It is a bool, no number, NaN or infinite.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ConfigError(
            f"{asker}: {name}={value!r} is {type(value).__name__}, not a number",
            hint="pass an int or a float",
        )
    if not math.isfinite(value):
        raise ConfigError(f"{asker}: {name}={value!r} is not finite", hint="pass a finite number")
    return float(value)


def positive(value: object, name: str, *, asker: str, hint: str = "") -> float:
    """Returns a finite number above zero.

    Raises:
        ConfigError: It is none.
    """
    number = real(value, name, asker=asker)
    if number <= 0:
        raise ConfigError(
            f"{asker}: {name}={value!r} is not above 0", hint=hint or "pass a number above 0"
        )
    return number


def names(values: Iterable[object], what: str, *, asker: str) -> tuple[str, ...]:
    """Returns names in their order, each once.

    Raises:
        ConfigError: One is empty or not a string.
    """
    found: dict[str, None] = {}
    for value in values:
        if not isinstance(value, str) or not value:
            raise ConfigError(
                f"{asker}: {value!r} is not {what}", hint="pass non-empty strings, one per name"
            )
        found[value] = None
    return tuple(found)
