"""One panel of a chart: a metric's line, and the checkpoints on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from holdfast.insight import Line, Mark
from holdfast.pictures.palette import Palette
from holdfast.readable import printable, shortened

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.ticker import Formatter

#: Marks of one kind that are drawn at most: more of them cover the line.
_MOST_MARKS: Final = 400
#: A line of so few points shows them, too.
_FEW: Final = 60


@dataclass(frozen=True, slots=True)
class Sort:
    """A kind of mark: which checkpoints it stands for, and how it looks.

    Attributes:
        name: What the legend calls it.
        chosen: Whether a checkpoint is of it.
        shape: matplotlib's marker.
        fill: ``full``, ``left`` (half), ``paper`` (hollow) or ``none`` (what is below shows).
        colour: Which colour of the palette.
        size: In points.
        edge: Which colour of the palette its edge has.
    """

    name: str
    chosen: Callable[[Mark], bool]
    shape: str
    fill: Literal["full", "left", "paper", "none"]
    colour: str
    size: float
    edge: str = ""


#: In the order in which they are drawn: what matters most comes last, on top.
SORTS: Final = (
    Sort("deleted", lambda mark: mark.fate == "deleted", "o", "paper", "deleted", 6.5),
    Sort("failed", lambda mark: mark.fate == "failed", "x", "full", "failed", 8),
    Sort("thinned", lambda mark: mark.fate == "thinned", "o", "left", "kept", 8),
    Sort("kept", lambda mark: mark.fate == "kept", "o", "full", "kept", 8),
    Sort("pinned", lambda mark: mark.pinned, "o", "none", "pinned", 17),
    Sort("best", lambda mark: mark.best, "*", "full", "best", 14, "ink"),
)


def draw_line(axes: Axes, line: Line, palette: Palette, *, width: float) -> None:
    """Draws a metric's line; a point between two gaps as a dot, or it would not be seen."""
    axes.plot(line.steps, line.values, color=palette.line, linewidth=width, zorder=2)
    missing = np.isnan(line.values)
    alone = np.ones(len(missing), bool)
    alone[1:] &= missing[:-1]
    alone[:-1] &= missing[1:]
    dots = ~missing & (alone | (line.drawn <= _FEW))
    axes.plot(
        line.steps[dots], line.values[dots], ".", color=palette.line, markersize=3.5, zorder=2
    )


def draw_marks(
    axes: Axes, line: Line, marks: Sequence[Mark], palette: Palette
) -> dict[str, Artist]:
    """Draws checkpoints where their steps are on the line; returns what the legend shows.

    Args:
        axes: The panel.
        line: The line; without a point, the marks stand in a row.
        marks: What became of each checkpoint.
        palette: The colours.

    Returns:
        The legend's text of each kind that there is, and an example of it.
    """
    shown: dict[str, Artist] = {}
    colours: Mapping[str, str] = palette.named()
    for place, sort in enumerate(SORTS):
        of_it = [mark for mark in marks if sort.chosen(mark)]
        if not of_it:
            continue
        steps = np.array([mark.step for mark in _spread(of_it)], np.float64)
        heights = line.at(steps) if line.drawn else np.zeros(len(steps))
        (artist,) = axes.plot(
            steps,
            heights,
            sort.shape,
            fillstyle="full" if sort.fill == "paper" else sort.fill,
            color=colours[sort.colour],
            markerfacecolor=palette.paper if sort.fill == "paper" else colours[sort.colour],
            markerfacecoloralt=palette.paper,
            markeredgecolor=colours[sort.edge or sort.colour],
            markersize=sort.size,
            markeredgewidth=0.8 if sort.edge else 1.8 if sort.fill == "full" else 1.5,
            zorder=3 + place,
            # At the first and the last step they would be cut in half.
            clip_on=False,
        )
        shown[f"{sort.name} {len(of_it):,}"] = artist
    return shown


def dress(axes: Axes, title: str, palette: Palette, *, log: bool, room: int) -> None:
    """Gives a panel its title, scale, grid and numbers.

    Args:
        axes: The panel.
        title: The metric.
        palette: The colours.
        log: Whether values are on a logarithmic scale.
        room: How many characters the title may have.
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator, ScalarFormatter

    text = shortened(printable(title), room) + (" (log)" if log else "")
    axes.set_title(text, loc="left", color=palette.ink, fontsize=10.5)
    if log:
        axes.set_yscale("log", nonpositive="mask")
        axes.yaxis.set_major_formatter(_log_numbers())
        axes.yaxis.set_minor_formatter(_log_numbers())
    else:
        axes.yaxis.set_major_formatter(ScalarFormatter(useOffset=False, useMathText=False))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    axes.grid(visible=True, color=palette.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=palette.muted, length=0, labelsize=9)
    axes.set_facecolor(palette.paper)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(palette.grid)


def _log_numbers() -> Formatter:
    """Returns what writes the numbers of a logarithmic scale: 0.2, and not 2e-01."""
    from matplotlib.ticker import LogFormatter

    class Plain(LogFormatter):
        def __call__(self, x: float, pos: int | None = None) -> str:
            # Which ones are written is matplotlib's choice: by how much room there is.
            return f"{x:g}" if super().__call__(x, pos) else ""

    return Plain(labelOnlyBase=False, minor_thresholds=(2, 1))


def _spread(marks: Sequence[Mark]) -> list[Mark]:
    """Returns at most `_MOST_MARKS` of them, evenly, the first and the last among them."""
    if len(marks) <= _MOST_MARKS:
        return list(marks)
    places = np.linspace(0, len(marks) - 1, _MOST_MARKS).round().astype(int)
    return [marks[place] for place in places.tolist()]
