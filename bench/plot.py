"""The report as a picture: for each row and size, every way as a multiple of the best possible."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.measure import SkippedError
from bench.report import number
from bench.results import Report, Table

#: Rows that are drawn, with the words above them.
_DRAWN = {
    "blocked": "Training blocked by a save",
    "durable": "Save until durable",
    "warm": "Restore, warm cache",
    "cold": "Restore, cold cache",
}
_OURS, _LIMIT, _PEER = "#0b7285", "#adb5bd", "#e8a33d"
#: From this size on bytes are what takes the time.
_LARGE = 100_000_000


def draw(report: Report, path: Path) -> None:
    """Writes an SVG with a panel for each row, at the largest size that was measured.

    Raises:
        SkippedError: matplotlib is not installed, or nothing of this was measured.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SkippedError("not installed: matplotlib (`make bench` installs it)") from error
    shown = [table for row in _DRAWN if (table := _largest(report.tables, row))]
    if not shown:
        raise SkippedError(f"none of the rows {', '.join(_DRAWN)} was measured")
    mpl.rcParams.update({"svg.hashsalt": "holdfast", "svg.fonttype": "none", "font.size": 9})
    heights = [len(_measured(table)) for table in shown]
    figure = Figure(figsize=(9.5, 0.27 * sum(heights) + 0.9 * len(shown)), facecolor="white")
    axes = figure.subplots(len(shown), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, table in zip(axes, shown, strict=True):
        _panel(axis, table)
    figure.tight_layout(h_pad=1.6)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=110)


def _largest(tables: Sequence[Table], row: str) -> Table | None:
    found = [t for t in tables if t.row == row and t.nbytes and _measured(t)]
    few = [t for t in found if t.tensors <= 1000] or found
    ordinary = [t for t in few if t.nbytes <= 2 * 2**30] or few
    return max(ordinary, key=lambda table: table.nbytes, default=None)


def _measured(table: Table) -> list[Any]:
    return [way for way in table.ways if way.median is not None]


def _panel(axis: Any, table: Table) -> None:
    ways = sorted(_measured(table), key=lambda way: way.median, reverse=True)
    medians = [way.median for way in ways]
    colours = [
        _LIMIT if way.limit else _OURS if way.name.startswith("holdfast") else _PEER for way in ways
    ]
    places = range(len(ways))
    spread = [
        [way.median - min(way.values) for way in ways],
        [max(way.values) - way.median for way in ways],
    ]
    axis.barh(places, medians, color=colours, height=0.72)
    # A single slow repeat must not push every bar into a corner.
    right = max(medians) * 1.15
    axis.errorbar(
        medians, places, xerr=spread, fmt="none", ecolor="#868e96", elinewidth=0.7, capsize=2
    )
    axis.set_xlim(0, right)
    for place, way in zip(places, ways, strict=True):
        speed = f"  {table.nbytes / way.median / 1e6:.2f} GB/s" if table.nbytes >= _LARGE else ""
        text = f"{number(way.median)} ms{speed}"
        axis.annotate(
            text,
            (1.01, place),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8,
            fontweight="bold" if way.name.startswith("holdfast") else "normal",
            annotation_clip=False,
        )
    axis.set_yticks(list(places), [way.name for way in ways])
    for label, way in zip(axis.get_yticklabels(), ways, strict=True):
        if way.name.startswith("holdfast"):
            label.set_fontweight("bold")
    if table.limit is not None:
        axis.axvline(table.limit, color="#868e96", linestyle=":", linewidth=1)
    size = table.title.rpartition(", ")[2]
    axis.set_title(f"{_DRAWN[table.row]}: {size}", loc="left", fontsize=10, fontweight="bold")
    axis.set_xlabel(
        "ms, less is better; thin: fastest to slowest; dotted: the machine's limit", fontsize=8
    )
    axis.spines[["top", "right"]].set_visible(False)
    axis.margins(y=0.02)
