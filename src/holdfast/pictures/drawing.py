"""A run's chart: its own metric with all its checkpoints, and others beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from holdfast.errors import ConfigError, NotFoundError
from holdfast.insight import Course, Line, Mark, line_of, marks_of, metrics_in_order
from holdfast.model import RunInfo
from holdfast.pictures.palette import DARK, LIGHT, Palette
from holdfast.pictures.panels import draw_line, draw_marks, dress
from holdfast.pictures.rendering import DPI, FORMATS, Format, rendered
from holdfast.readable import count, number, shortened
from holdfast.reading import RunReader

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FORMATS", "Format", "chart"]

#: Panels beside the one of the run's own metric.
MOST_PANELS: Final = 6
_SMALLEST, _LARGEST = 300, 8000
#: Points of a line per pixel of its width: more cannot be told apart.
_POINTS_PER_PIXEL = 2
_MAIN, _SMALL, _AROUND = 330, 170, 90
_TINY, _HUGE = 1e-150, 1e150
_STYLE: Final[Mapping[str, Any]] = {
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
    "font.size": 10,
    "axes.titlepad": 8,
    "path.simplify": False,
    "figure.constrained_layout.use": True,
}


@dataclass(frozen=True, slots=True)
class Picture:
    """All that a chart shows.

    Attributes:
        info: The run.
        steps: How many steps it recorded.
        lines: Metric to its line, the large one first.
        left_out: How many metrics have no panel.
        marks: What became of its checkpoints.
    """

    info: RunInfo
    steps: int
    lines: Mapping[str, Line]
    left_out: int
    marks: Sequence[Mark]


def chart(
    run: RunReader,
    format: Format = "png",
    *,
    metrics: Sequence[str] = (),
    width: int = 1000,
    height: int | None = None,
    log: bool = False,
    dark: bool = False,
    course: Course | None = None,
    salt: str = "holdfast",
) -> bytes:
    """Returns a chart of a run; the same run gives the same bytes.

    Args:
        run: The run.
        format: ``"png"`` or ``"svg"``.
        metrics: What is shown, the first one large with the checkpoints on it, up to 6 others
            small. Left out, the run's own metric and the first 6 of `insight.metrics_in_order`
            that have a course, that is, more than one value.
        width: In pixels, 300 to 8000.
        height: In pixels, the same; left out, what the panels need.
        log: Whether values are on a logarithmic scale; those that are not above 0 are left out.
        dark: Whether it stands on dark paper.
        course: What was read of the run before, brought up to date.
        salt: As for `rendering.rendered`.

    Raises:
        ConfigError: A size or a number of metrics that cannot be drawn, a logarithmic scale for
            what has no value above 0, or matplotlib or tsdownsample is not installed.
        NotFoundError: The run has reported no such metric, or is gone.
    """
    for side in (width, height):
        if side is not None and not _SMALLEST <= side <= _LARGEST:
            raise ConfigError(
                f"a chart of {side} pixels cannot be drawn",
                hint=f"{_SMALLEST} to {_LARGEST} pixels are possible",
            )
    if course is None:
        course = Course(run)
        course.refresh()
    picture = _picture(run, course, metrics, most=width * _POINTS_PER_PIXEL, log=log)
    palette = DARK if dark else LIGHT

    def draw() -> Figure:
        return _figure(picture, palette, width=width, height=height, log=log)

    return rendered(draw, format, style={**_STYLE, "text.color": palette.ink}, salt=salt)


def _picture(
    run: RunReader, course: Course, asked: Sequence[str], *, most: int, log: bool
) -> Picture:
    info = run.info
    known = metrics_in_order(course, info.metric)
    going = [name for name in known if len(course.series(name).steps) > 1] or known
    chosen = list(dict.fromkeys(asked)) or going[: MOST_PANELS + 1]
    if len(chosen) > MOST_PANELS + 1:
        raise ConfigError(
            f"{len(chosen)} metrics do not fit into a chart",
            hint=f"choose up to {MOST_PANELS + 1}",
        )
    for name in chosen:
        if name not in known:
            raise NotFoundError(
                f"the run {info.name} has reported no {name!r}",
                hint=f"metrics that it reported: {', '.join(known) or 'none'}",
                nearest=tuple(get_close_matches(name, known, n=3)),
            )
    lines = {name: _drawable(line_of(course.series(name), most)) for name in chosen}
    if log:
        lines = {name: _positive(line) for name, line in lines.items()}
        bare = [name for name, line in lines.items() if not line.drawn]
        if asked and bare:
            raise ConfigError(
                f"{bare[0]!r} has no value above 0, which a logarithmic scale needs",
                hint="draw it without the logarithmic scale",
            )
    left_out = 0 if asked else len(known) - len(chosen)
    return Picture(info, course.steps, lines, left_out, marks_of(run, course))


def _drawable(line: Line) -> Line:
    """Returns a line without the values at the ends of what a float can be, as if they were none.

    The span of two of them, or its inverse, is no float any more.
    """
    size = np.abs(line.values)
    values = np.where(size < _TINY, 0.0, line.values)
    return Line(line.steps, np.where(size > _HUGE, np.nan, values))


def _positive(line: Line) -> Line:
    return Line(line.steps, np.where(line.values > 0, line.values, np.nan))


def _figure(
    picture: Picture, palette: Palette, *, width: int, height: int | None, log: bool
) -> Figure:
    from matplotlib.figure import Figure

    names = list(picture.lines)
    others = names[1:]
    across = min(3 if width >= 900 else 2 if width >= 560 else 1, max(len(others), 1))
    rows = math.ceil(len(others) / across)
    panels = _MAIN + rows * _SMALL
    tall = height or _AROUND + panels
    if tall < _AROUND + panels // 3:
        raise ConfigError(
            f"{count(len(names), 'panel')} do not fit into {tall} pixels of height",
            hint=f"{_AROUND + panels // 3} are enough, or choose fewer metrics",
        )
    figure = Figure(figsize=(width / DPI, tall / DPI), dpi=DPI, facecolor=palette.paper)
    grid = figure.add_gridspec(1 + rows, across, height_ratios=[_MAIN, *[_SMALL] * rows])
    letters = width // 9
    title = shortened(picture.info.name, letters // (2 if width >= 560 else 1))
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=palette.ink)
    main = figure.add_subplot(grid[0, :])
    line = picture.lines[names[0]] if names else Line(np.zeros(0), np.zeros(0))
    scale: Literal["log", "linear"] = "log" if log and line.drawn else "linear"
    draw_line(main, line, palette, width=1.6)
    entries = draw_marks(main, line, picture.marks, palette)
    dress(
        main, names[0] if names else "no metric was reported yet", palette,
        log=scale == "log", room=letters // 2,
    )  # fmt: skip
    if not line.drawn:
        main.set_yticks([])
    if width >= 560:
        main.set_title(
            _said(picture, width // 7 - len(names[0]) if names else 0),
            loc="right",
            color=palette.muted,
            fontsize=9,
        )
    limits = _limits(picture)
    main.set_xlim(*limits)
    for place, name in enumerate(others):
        panel = figure.add_subplot(grid[1 + place // across, place % across])
        draw_line(panel, picture.lines[name], palette, width=1.2)
        own_log = log and bool(picture.lines[name].drawn)
        dress(panel, name, palette, log=own_log, room=letters // across - 6)
        panel.set_xlim(*limits)
    for axes in figure.axes[-across:] if others else [main]:
        axes.set_xlabel("step", color=palette.muted, fontsize=9)
    if entries:
        figure.legend(
            entries.values(), entries.keys(), loc="outside lower center", frameon=False,
            ncols=6 if width >= 560 else 3, labelcolor=palette.ink, fontsize=9,
            handletextpad=0.4, columnspacing=1.6,
        )  # fmt: skip
    return figure


def _said(picture: Picture, room: int) -> str:
    """Returns what stands at the right of the title, as much of it as there is room for."""
    best = next((mark for mark in picture.marks if mark.best), None)
    parts = [picture.info.status, count(picture.steps, "step")]
    if best is not None:
        metric = picture.info.metric or ""
        line = picture.lines.get(metric)
        value = f" {number(float(line.at(np.array([float(best.step)]))[0]))}" if line else ""
        parts.append(f"best{value} at step {best.step:,}")
    if picture.left_out:
        parts.append(f"{count(picture.left_out, 'metric')} not shown")
    while len(parts) > 1 and len(" · ".join(parts)) > room:
        parts.pop()
    return " · ".join(parts)


def _limits(picture: Picture) -> tuple[float, float]:
    """Returns the steps at the left and the right end of all panels."""
    steps = [float(mark.step) for mark in picture.marks]
    for line in picture.lines.values():
        if len(line.steps):
            steps += [float(line.steps.min()), float(line.steps.max())]
    low, high = min(steps, default=0.0), max(steps, default=1.0)
    margin = max((high - low) * 0.015, 0.5)
    return low - margin, high + margin
