"""Charts as data: what ECharts is told, made from series and marks by pure functions.

Two rules hold for all of it. Nothing that comes from a run is ever a key: the pages' library runs
the values of keys that begin with a colon as code. And tooltips are drawn on the canvas
(``richText``), never as HTML.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from holdfast.insight import Mark, Series
from holdfast.readable import number

Options = dict[str, Any]

#: Points of a line in a chart: a lowest and a highest one for every three columns of a screen.
POINTS: Final = 800
#: Marks in a chart; beyond it only what is special is shown beside a choice of the rest.
MARKS: Final = 250

#: Colours that those who see red and green alike can tell apart (Okabe and Ito, 2008,
#: "Color Universal Design"), without the yellow that white paper swallows.
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
DASHES: Final = ("solid", "dashed", "dotted")
_CROSS: Final = "path://M0 2L2 0L8 6L14 0L16 2L10 8L16 14L14 16L8 10L2 16L0 14L6 8Z"
_STAR: Final = "path://M8 0L10 6L16 6L11 10L13 16L8 12L3 16L5 10L0 6L6 6Z"


@dataclass(frozen=True, slots=True)
class _Look:
    """How marks of a kind look: told apart by shape, and by colour besides."""

    name: str
    symbol: str
    size: int
    colour: str
    hollow: bool = False


LOOKS: Final[Mapping[str, _Look]] = {
    "deleted": _Look("deleted", _CROSS, 7, "#8a8f96"),
    "thinned": _Look("kept, thinned", "diamond", 10, "#0072b2", hollow=True),
    "kept": _Look("kept", "circle", 8, "#0072b2"),
    "failed": _Look("save failed", "triangle", 11, "#d55e00"),
    "pinned": _Look("pinned", "circle", 18, "#cc79a7", hollow=True),
    "best": _Look("best", _STAR, 16, "#e69f00"),
}


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a chart.

    Attributes:
        name: What it is called; it may come from a run.
        series: Its points.
        colour: Its colour; left out, one of `COLOURS`.
    """

    name: str
    series: Series
    colour: str = ""


def spark_points(values: Sequence[float], *, width: int, height: int) -> str:
    """Returns a sparkline's points for an SVG polyline; what is not finite is left out."""
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 2:
        return ""
    low, high = min(finite), max(finite)
    # Divided first: the difference of the largest floats is none.
    span = high / 2 - low / 2 or 1.0
    step = width / (len(values) - 1)
    return " ".join(
        f"{at * step:.1f},{1 + (height - 2) * (1 - (value / 2 - low / 2) / span):.1f}"
        for at, value in enumerate(values)
        if math.isfinite(value)
    )


def points(series: Series) -> list[list[float | None]]:
    """Returns a series as pairs of step and value; None where a value is not finite."""
    return [
        [int(step), float(value) if math.isfinite(value) else None]
        for step, value in zip(series.steps, series.values, strict=True)
    ]


def stretch(series: Series, first: int | None, last: int | None) -> Series:
    """Returns a series for a chart that shows a stretch of it: fine within, coarse outside.

    Args:
        series: All of it.
        first: The stretch's first step; None for the beginning.
        last: Its last step; None for the end.
    """
    if first is None and last is None:
        return series.thinned(POINTS)
    within = series.between(first, last).thinned(POINTS)
    parts = [within]
    if first is not None:
        parts.insert(0, series.between(None, first - 1).thinned(POINTS // 5))
    if last is not None:
        parts.append(series.between(last + 1, None).thinned(POINTS // 5))
    return Series(
        np.concatenate([part.steps for part in parts]),
        np.concatenate([part.at for part in parts]),
        np.concatenate([part.values for part in parts]),
        series.total,
    )


def chosen_marks(marks: Sequence[Mark], first: int | None, last: int | None) -> list[Mark]:
    """Returns the marks of a stretch that fit a chart: all that are special, and some of the rest.

    Args:
        marks: All marks, by step.
        first: The stretch's first step; None for the beginning.
        last: Its last step; None for the end.
    """
    low = -math.inf if first is None else first
    high = math.inf if last is None else last
    within = [mark for mark in marks if low <= mark.step <= high]
    special = [mark for mark in within if _is_special(mark)][-MARKS:]
    plain = [mark for mark in within if not _is_special(mark)]
    room = max(MARKS - len(special), MARKS // 4)
    if len(plain) > room:
        chosen = np.linspace(0, len(plain) - 1, room).astype(int)
        plain = [plain[number] for number in chosen]
    return sorted([*special, *plain], key=lambda mark: (mark.step, mark.at))


def _is_special(mark: Mark) -> bool:
    return mark.best or mark.pinned or mark.damaged or bool(mark.tags) or mark.fate == "failed"


def mark_points(marks: Iterable[Mark], series: Series) -> dict[str, list[Options]]:
    """Returns marks as points on a line, by how they look; one may be in several.

    Args:
        marks: The marks.
        series: The line on which they lie; a mark lies at the newest value up to its step.
    """
    found: dict[str, list[Options]] = {look: [] for look in LOOKS}
    finite = np.isfinite(series.values)
    order = np.argsort(series.steps[finite], kind="stable")
    steps, values = series.steps[finite][order], series.values[finite][order]
    for mark in marks:
        if not len(steps):
            break
        at = max(int(np.searchsorted(steps, mark.step, side="right")) - 1, 0)
        point = {"value": [mark.step, float(values[at])], "id": mark.id, "text": mark_text(mark)}
        found[mark.fate].append(point)
        if mark.pinned:
            found["pinned"].append(point)
        if mark.best:
            found["best"].append(point)
    return found


def mark_text(mark: Mark) -> str:
    """Returns what a mark means, in words."""
    parts = [LOOKS[mark.fate].name]
    parts += ["best"] * mark.best + ["pinned"] * mark.pinned + ["damaged"] * mark.damaged
    parts += [f"tagged {', '.join(mark.tags)}"] if mark.tags else []
    said = [f"{mark.id or 'a save'}: {', '.join(parts)}"]
    said += [f"saved: {mark.reason}"] if mark.reason else []
    said += [mark.why] if mark.why else []
    return "; ".join(said)


def metric_chart(
    lines: Sequence[Line], marks: Mapping[str, list[Options]] | None = None
) -> Options:
    """Returns a chart of lines over steps, with marks on the first of them."""
    series: list[Options] = [
        {
            "id": f"line-{place}",
            "name": line.name,
            "type": "line",
            "showSymbol": len(line.series.steps) == 1,
            "sampling": "none",
            "animation": False,
            # Told apart by more than colour.
            "lineStyle": {"width": 1.5, "type": DASHES[place % len(DASHES)]},
            "color": line.colour or COLOURS[place % len(COLOURS)],
            "data": points(line.series),
        }
        for place, line in enumerate(lines)
    ]
    series += [_mark_series(look, (marks or {}).get(look, [])) for look in LOOKS] * (
        marks is not None
    )
    return {
        "animation": False,
        "backgroundColor": "transparent",
        "grid": {"left": 8, "right": 16, "top": 16, "bottom": 44, "containLabel": True},
        "tooltip": {
            "trigger": "axis",
            "renderMode": "richText",
            "confine": True,
            ":formatter": "window.holdfast.tooltip",
        },
        "xAxis": {"type": "value", "min": "dataMin", "max": "dataMax", "minInterval": 1},
        "yAxis": {"type": "value", "scale": True},
        "dataZoom": [
            {"id": "inside", "type": "inside", "filterMode": "none"},
            {"id": "slider", "type": "slider", "filterMode": "none", "height": 18, "bottom": 8},
        ],
        "series": series,
    }


def _mark_series(look: str, data: list[Options]) -> Options:
    how = LOOKS[look]
    style: Options = {"color": how.colour, "opacity": 1}
    if how.hollow:
        style = {"color": "transparent", "borderColor": how.colour, "borderWidth": 2}
    elif look == "best":
        style |= {"borderColor": "#1b1f24", "borderWidth": 1}
    return {
        "id": f"marks-{look}",
        "name": how.name,
        "type": "scatter",
        "symbol": how.symbol,
        "symbolSize": how.size,
        "itemStyle": style,
        "animation": False,
        # Over the lines.
        "z": 5,
        "data": data,
    }


def chart_label(metric: str, series: Series, marks: Sequence[Mark]) -> str:
    """Returns a chart in one sentence, for those who cannot see it."""
    finite = series.values[np.isfinite(series.values)]
    if not len(finite):
        return f"{metric}: nothing was reported yet"
    kept = sum(mark.fate in ("kept", "thinned") for mark in marks)
    return (
        f"{metric} over {series.total:,} reports up to step {int(series.steps[-1]):,}: "
        f"now {number(float(finite[-1]))}, between {number(float(finite.min()))} and "
        f"{number(float(finite.max()))}; {kept:,} checkpoints kept of {len(marks):,}"
    )
