"""Thresholds: what ``by=`` means, what beats what, and how many bytes ``"2GB"`` is."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from holdfast.errors import ConfigError
from holdfast.model import Mode
from holdfast.policy import arguments

_PERCENT = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*%\s*")
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", re.IGNORECASE)
_UNITS = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}


@dataclass(frozen=True, slots=True)
class Margin:
    """By how much a value must differ from a reference.

    Attributes:
        amount: In units of the metric, or in percent of the reference's absolute value.
        percent: Which of the two.
    """

    amount: float = 0.0
    percent: bool = False

    @classmethod
    def of(cls, by: object, *, asker: str) -> Margin:
        """Returns the margin that ``by=`` asks for: a number, or text like ``"0.5%"``.

        Raises:
            ConfigError: It is neither, negative, or not finite.
        """
        if isinstance(by, str):
            match = _PERCENT.fullmatch(by)
            if match is None:
                raise ConfigError(
                    f"{asker}: by={by!r} is not a margin",
                    hint='pass a number (absolute), or a percentage such as "0.5%"',
                )
            return cls(float(match[1]), percent=True)
        amount = arguments.real(by, "by", asker=asker)
        if amount < 0:
            raise ConfigError(
                f"{asker}: by={by!r} is negative",
                hint="pass how much better it must be; the direction is mode=",
            )
        return cls(amount)

    def width(self, reference: float) -> float:
        """Returns the margin around a reference, in units of the metric."""
        return abs(reference) * self.amount / 100 if self.percent else self.amount

    def given(self) -> float | str:
        """Returns what was passed as ``by=``."""
        if not self.percent:
            return self.amount
        text = repr(self.amount)
        return f"{text.removesuffix('.0')}%"


def beats(value: float, reference: float | None, mode: Mode, *, margin: Margin) -> bool:
    """Returns whether a value is better than a reference by more than a margin.

    Strict: an equal value is no improvement, and neither is one that is better by the margin
    exactly. A finite value beats a missing or non-finite reference; a NaN or an infinity never
    beats anything.
    """
    if not math.isfinite(value):
        return False
    if reference is None or not math.isfinite(reference):
        return True
    width = margin.width(reference)
    return value < reference - width if mode == "min" else value > reference + width


@dataclass(frozen=True, slots=True)
class Size:
    """A number of bytes, and how it was written."""

    nbytes: int
    given: int | str

    @classmethod
    def of(cls, value: object, *, asker: str) -> Size:
        """Returns a size: bytes as int, or text with a unit.

        Units are B, kB, MB, GB, TB (powers of 1000) and KiB, MiB, GiB, TiB (powers of 1024), in
        any case.

        Raises:
            ConfigError: It is neither, or not above zero.
        """
        hint = 'pass bytes as an int, or a text such as "2GB" or "500MiB"'
        if not isinstance(value, str):
            nbytes = arguments.count(value, "size", asker=asker, hint=hint)
            return cls(nbytes, nbytes)
        match = _SIZE.fullmatch(value)
        unit = _UNITS.get(match[2].lower()) if match else None
        if match is None or unit is None:
            raise ConfigError(f"{asker}: {value!r} is not a size", hint=hint)
        nbytes = round(float(match[1]) * unit)
        if nbytes < 1:
            raise ConfigError(f"{asker}: {value!r} is less than one byte", hint=hint)
        return cls(nbytes, value)

    def __str__(self) -> str:
        return self.given if isinstance(self.given, str) else f"{self.given} B"
