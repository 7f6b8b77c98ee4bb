"""How numbers and policies are written: in reasons for people, in expressions for the journal."""

from __future__ import annotations

import math

_KILO = 1000
_SIZE_UNITS = ("B", "kB", "MB", "GB", "TB")
#: Between these, four digits with an exponent read worse than the integer part in full.
_IN_FULL_FROM, _IN_FULL_BELOW = 1e4, 1e15


def number(value: float) -> str:
    """Returns a number for a reason: four significant digits, integers and large ones in full."""
    if isinstance(value, int):
        return str(value)
    if _IN_FULL_FROM <= abs(value) < _IN_FULL_BELOW:
        return f"{value:.0f}"
    return f"{value:.4g}"


def contrast(first: float, second: float) -> tuple[str, str]:
    """Returns two numbers as text, with as many digits as it takes to tell them apart."""
    texts = number(first), number(second)
    if texts[0] != texts[1] or first == second:
        return texts
    for digits in (6, 8, 12, 17):
        texts = f"{first:.{digits}g}", f"{second:.{digits}g}"
        if texts[0] != texts[1]:
            break
    return texts


def duration(seconds: float) -> str:
    """Returns a span of time in its largest fitting unit (``"90 s"``, ``"2.5 h"``)."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if abs(seconds) >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"


def size(nbytes: int) -> str:
    """Returns bytes in decimal units (``"2.4GB"``; 1 GB is 10^9 bytes)."""
    value = float(nbytes)
    unit = 0
    while abs(value) >= _KILO and unit < len(_SIZE_UNITS) - 1:
        value /= _KILO
        unit += 1
    return f"{value:.4g}{_SIZE_UNITS[unit]}"


def plural(count: int, word: str) -> str:
    """Returns a count with its noun: ``"1 step"``, ``"2 steps"``."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def expression(callee: str, *arguments: object, **named: object) -> str:
    """Returns the call that makes a policy; named arguments that are None are left out.

    Trailing positional arguments that are None are left out as well.
    """
    shown = list(arguments)
    while shown and shown[-1] is None:
        shown.pop()
    parts = [_literal(value) for value in shown]
    parts += [f"{name}={_literal(value)}" for name, value in named.items() if value is not None]
    return f"{callee}({', '.join(parts)})"


def _literal(value: object) -> str:
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return repr(int(value))
    return repr(value)
