"""Charts out of characters: a sparkline, and a line plot in Braille dots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from holdfast.cli.formatting import number

_BARS = "▁▂▃▄▅▆▇█"
_BLANK = 0x2800
#: Bits of the Braille dots, by row and column of a 4 x 2 cell (Unicode 15.1, section 21.1).
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_ROWS, _COLUMNS = len(_DOTS), len(_DOTS[0])

Points = Sequence[tuple[int, float]]


def sparkline(values: Sequence[float], *, width: int) -> str:
    """Returns a line of at most `width` bars; values that are not finite leave a gap.

    Args:
        values: In order; more than `width` are averaged in groups.
        width: In characters, at least 1.
    """
    groups = _grouped(values, width)
    finite = [value for value in groups if math.isfinite(value)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    top = len(_BARS) - 1
    return "".join(
        _BARS[round(_share(value, low, high) * top)] if math.isfinite(value) else " "
        for value in groups
    )


def plot(points: Points, *, width: int, height: int) -> list[str]:
    """Returns the rows of a line plot with its axes; no rows where no value is finite.

    Args:
        points: ``(step, value)``; those that are not finite break the line.
        width: In characters, axis included.
        height: Rows of the plot itself.
    """
    finite = [(step, value) for step, value in points if math.isfinite(value)]
    if not finite:
        return []
    low, high = min(v for _, v in finite), max(v for _, v in finite)
    first, last = min(s for s, _ in finite), max(s for s, _ in finite)
    labels = {0: number(high), height - 1: number(low)}
    margin = max(map(len, labels.values()))
    canvas = _Canvas(max(width - margin - 2, 1), height)

    def place(step: int, value: float) -> tuple[float, float]:
        across, up = _share(step, first, last), _share(value, low, high)
        return across * (canvas.dots_across - 1), (1 - up) * (canvas.dots_down - 1)

    for (step, value), (following, after) in pairwise(points):
        if math.isfinite(value) and math.isfinite(after):
            canvas.line(place(step, value), place(following, after))
    for step, value in finite:
        canvas.line(place(step, value), place(step, value))
    rows = [f"{labels.get(row, ''):>{margin}} ┤{text}" for row, text in enumerate(canvas.rows())]
    left, right = f"step {first}", str(last)
    room = max(canvas.width - len(left) - len(right), 1)
    return [*rows, f"{'':>{margin}}  {left}{' ' * room}{right}"]


class _Canvas:
    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.dots_across, self.dots_down = width * _COLUMNS, height * _ROWS
        self._cells = [[_BLANK] * width for _ in range(height)]

    def line(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        (x0, y0), (x1, y1) = start, end
        dots = max(round(max(abs(x1 - x0), abs(y1 - y0))), 1)
        for dot in range(dots + 1):
            share = dot / dots
            x, y = round(x0 + (x1 - x0) * share), round(y0 + (y1 - y0) * share)
            self._cells[y // _ROWS][x // _COLUMNS] |= _DOTS[y % _ROWS][x % _COLUMNS]

    def rows(self) -> list[str]:
        return ["".join(map(chr, cells)).rstrip(chr(_BLANK)) for cells in self._cells]


def _share(value: float, low: float, high: float) -> float:
    """Returns where a value lies between two others, 0 to 1; halves, so that nothing overflows."""
    span = high / 2 - low / 2
    return (value / 2 - low / 2) / span if span > 0 else 0.0


def _grouped(values: Sequence[float], width: int) -> list[float]:
    if len(values) <= width:
        return list(values)
    groups = []
    for index in range(width):
        group = values[index * len(values) // width : (index + 1) * len(values) // width]
        finite = [value for value in group if math.isfinite(value)]
        # Divided first: the sum of some of the largest floats is none.
        mean = math.fsum(value / len(finite) for value in finite)
        groups.append(mean if finite else math.nan)
    return groups
