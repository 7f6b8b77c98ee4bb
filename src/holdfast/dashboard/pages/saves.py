"""How long a run's saves took, as a chart: what they cost, and how soon they were safe."""

from __future__ import annotations

from typing import Final

from nicegui import ui

from holdfast.dashboard.pages import charts
from holdfast.dashboard.pages.parts import Tag
from holdfast.insight import CloseUp, SaveCosts, save_costs

_STALL: Final = "held up training, ms"
_DURABLE: Final = "then until durable, ms"


class SaveCurves:
    """The chart of a run's saves; nothing is shown before the first one."""

    def __init__(self) -> None:
        self._count = 0
        self._chart: ui.echart | None = None
        self._section = Tag("section", aria_label="How long saves take")
        with self._section:
            Tag("h2", "How long saves take")
            self._text = Tag("p")
            self._body = Tag("div", role="img", aria_label="", classes="hf-card")
        self._section.visible = False

    def draw(self, seen: CloseUp) -> None:
        """Shows the saves as they are now."""
        times = seen.course.times
        if len(times) == self._count:
            return
        self._count = len(times)
        costs = save_costs(times)
        self._section.visible = bool(times)
        self._text.say(costs.text)
        self._body.put("aria-label", costs.text)
        if self._chart is None:
            with self._body:
                self._chart = ui.echart(_options(costs)).classes("hf-chart")
            return
        data = [{"id": f"line-{n}", "data": one["data"]} for n, one in enumerate(_series(costs))]
        self._chart.run_chart_method("setOption", {"series": data})


def _options(costs: SaveCosts) -> charts.Options:
    options = charts.metric_chart(_lines(costs))
    # One is often a hundred times the other.
    options["yAxis"] = {"type": "log", "name": "ms", "nameLocation": "end"}
    options["legend"] = {"show": True, "top": 0}
    options["grid"] |= {"top": 40}
    return options


def _series(costs: SaveCosts) -> list[charts.Options]:
    series: list[charts.Options] = charts.metric_chart(_lines(costs))["series"]
    return series


def _lines(costs: SaveCosts) -> list[charts.Line]:
    return [
        charts.Line(_STALL, costs.stall_ms.thinned(charts.POINTS)),
        charts.Line(_DURABLE, costs.durable_ms.thinned(charts.POINTS)),
    ]
