"""The table of a run's checkpoints: its rows come from the REST API as they are scrolled to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from nicegui import ui

from holdfast.dashboard.pages.parts import Tag
from holdfast.insight import CloseUp, Mark

#: Columns of metrics.
_METRICS: Final = 4
_ROWS_AT_ONCE: Final = 100


class CheckpointTable:
    """A run's checkpoints, newest first; a row opens one.

    Args:
        run: The run's name.
        load: The line that loads a checkpoint, with ``ID`` in the place of its id.
    """

    def __init__(self, run: str, *, load: str) -> None:
        self._run, self._load = run, load
        self._metrics: list[str] | None = None
        self._marks: Sequence[Mark] = ()
        self._where = ""
        self._grid: ui.aggrid | None = None
        with Tag("section", aria_label="Checkpoints"):
            Tag("h2", "Checkpoints")
            with Tag("div", classes="hf-fields"):
                self._field = ui.input(
                    "Filter, such as loss < 0.3 and tag = prod", on_change=self._filter
                ).props("outlined dense clearable debounce=400")
            self._place = Tag("div")

    def draw(self, seen: CloseUp) -> None:
        """Shows a run as it is now: rows that are in sight are asked for again."""
        metrics = list(seen.metrics[:_METRICS])
        if metrics != self._metrics:
            self._metrics, self._marks = metrics, seen.marks
            self._make()
        elif self._grid is not None and seen.marks != self._marks:
            self._marks = seen.marks
            self._grid.run_grid_method("refreshInfiniteCache")

    def _filter(self) -> None:
        where = (self._field.value or "").strip()
        if where != self._where:
            self._where = where
            self._make()

    def _make(self) -> None:
        self._place.clear()
        context = {
            "run": self._run,
            "where": self._where,
            "metrics": self._metrics or [],
            "load": self._load,
        }
        with self._place:
            self._grid = ui.aggrid(grid_options(context), auto_size_columns=False).classes(
                "hf-grid"
            )


def grid_options(context: dict[str, Any]) -> dict[str, Any]:
    """Returns what AG Grid is told; what comes from a run stands in values alone.

    Args:
        context: The run, its filter, the names of its metrics, and the line that loads.
    """
    return {
        "columnDefs": [
            _column("Step", "step", 90, cellRenderer="open", sortable=True),
            _column("Saved", "created_at", 110, cellRenderer="age", sortable=True),
            *(
                _column(
                    metric,
                    f"metric-{place}",
                    120,
                    valueGetter="metric",
                    valueFormatter="number",
                    sortable=True,
                    context={"metric": metric},
                )
                for place, metric in enumerate(context["metrics"])
            ),
            _column("State", "state", 120, valueGetter="state"),
            {**_column("Why it was saved", "reason", 260), "field": "reason"},
            {
                **_column("Size", "nbytes", 90, valueFormatter="bytes", sortable=True),
                "field": "nbytes",
            },
            _column("Tags", "tags", 110, valueGetter="tags"),
            _column("Load it", "load", 90, cellRenderer="load"),
        ],
        "defaultColDef": {
            "sortable": False,
            "resizable": True,
            ":suppressKeyboardEvent": "window.holdfast.cells.tab",
            ":suppressHeaderKeyboardEvent": "window.holdfast.cells.tab",
        },
        "rowModelType": "infinite",
        "cacheBlockSize": _ROWS_AT_ONCE,
        "maxBlocksInCache": 10,
        "rowHeight": 36,
        "suppressCellFocus": False,
        "context": context,
        ":datasource": "window.holdfast.rows()",
        ":getRowId": "window.holdfast.cells.key",
        "overlayNoRowsTemplate": "<span>No checkpoint fits</span>",
    }


def _column(title: str, name: str, width: int, **how: Any) -> dict[str, Any]:
    """Returns a column whose cells are made by functions of `pages.js`."""
    made: dict[str, Any] = {"headerName": title, "colId": name, "width": width}
    for key, value in how.items():
        if key in {"cellRenderer", "valueGetter", "valueFormatter"}:
            made[f":{key}"] = f"window.holdfast.cells.{value}"
        else:
            made[key] = value
    return made
