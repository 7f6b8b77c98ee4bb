"""A run's metrics as charts: live, zoomed on the server, with its checkpoints on the lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from nicegui import ui
from nicegui.events import GenericEventArguments

from holdfast.dashboard.pages import charts
from holdfast.dashboard.pages.feed import Feed
from holdfast.dashboard.pages.parts import Tag
from holdfast.insight import CloseUp, Mark, Series

#: Charts at once, and those that are there without being asked for.
_MOST: Final = 6
_FIRST: Final = 2
#: Points that go to the browser one by one before a line is thinned anew.
_ADDED: Final = 500
_AT_ONCE: Final = 100
_OPEN: Final = "(event) => event.data?.id && window.emitEvent('open-checkpoint', event.data.id)"


class Curves:
    """The charts of a run, one for each metric that was chosen.

    Args:
        feed: Where series are asked for.
        run: The run's name.
    """

    def __init__(self, feed: Feed, run: str) -> None:
        self._feed = feed
        self._run = run
        self._chosen: list[str] | None = None
        self._offered: list[str] = []
        self._curves: dict[str, _Curve] = {}
        self._newest: CloseUp | None = None
        with Tag("section", aria_label="Metrics"):
            Tag("h2", "Metrics")
            with Tag("div", classes="hf-fields"):
                self._select = ui.select(
                    [], label="Metrics that are shown", multiple=True, on_change=self._choose
                ).props("outlined dense use-chips options-dense")
            self._legend()
            self._place = Tag("div")

    def _legend(self) -> None:
        with Tag("ul", classes="hf-key", aria_label="What the marks mean"):
            for look, shape in _SHAPES:
                Tag("li", f"{shape} {charts.LOOKS[look].name}")

    async def draw(self, seen: CloseUp) -> None:
        """Shows a run as it is now."""
        self._newest = seen
        names = list(seen.metrics)
        if names != self._offered:
            self._offered = names
            if self._chosen is None and names:
                self._chosen = names[:_FIRST]
            # The select passes its values on as positions: names are never keys.
            self._select.set_options(names, value=self._chosen or [])
        chosen = list(self._chosen or [])
        for metric in [name for name in self._curves if name not in chosen]:
            self._curves.pop(metric).delete()
        for metric in chosen:
            series = await self._feed.ask(
                ("series", self._run, metric), partial(seen.course.series, metric)
            )
            if metric in self._curves:
                self._curves[metric].draw(series, seen.marks)
            elif metric in (self._chosen or []):
                with self._place:
                    self._curves[metric] = _Curve(metric, series, seen.marks)

    async def _choose(self) -> None:
        chosen = list(self._select.value or [])[:_MOST]
        if self._newest is not None and chosen != self._chosen:
            self._chosen = chosen
            await self.draw(self._newest)


_SHAPES: Final = (
    ("kept", "●"),
    ("thinned", "◇"),
    ("deleted", "✕"),
    ("failed", "▲"),
    ("best", "★"),
    ("pinned", "◯"),
)


class _Curve:
    """One metric's chart, and what the browser has of it."""

    def __init__(self, metric: str, series: Series, marks: Sequence[Mark]) -> None:
        self._metric = metric
        self._series, self._marks = series, marks
        self._window: tuple[int | None, int | None] = (None, None)
        self._added = 0
        self._card = Tag("div", classes="hf-card")
        with self._card:
            Tag("h3", metric)
            with Tag("div", classes="hf-fields"):
                self._from = ui.number("From step", min=0, precision=0, on_change=self._typed)
                self._to = ui.number("To step", min=0, precision=0, on_change=self._typed)
                for field in (self._from, self._to):
                    field.props("outlined dense debounce=400").classes("hf-short")
                whole = Tag("button", "Whole run", classes="hf-button", type="button")
                whole.on("click", lambda: self._look_at(None, None))
                self._note = Tag("span", classes="hf-faint")
            self._body = Tag("div", role="img", aria_label="")
            options = charts.metric_chart([self._line()], self._mark_points())
            with self._body:
                self._chart = ui.echart(options).classes("hf-chart")
        self._chart.on("chart:datazoom", self._zoomed, ["start", "end", "batch"], throttle=0.2)
        self._chart.on("componentClick", js_handler=_OPEN)
        self._describe()

    def _describe(self) -> None:
        text = charts.chart_label(self._metric, self._series, self._marks)
        self._body.put("aria-label", text)

    def delete(self) -> None:
        self._card.delete()

    def draw(self, series: Series, marks: Sequence[Mark]) -> None:
        before, self._series = self._series, series
        if self._window != (None, None):
            # What is looked at stays still; all that came meanwhile is there on the way back.
            self._marks = marks
            self._describe()
            return
        if not _continues(before, series):
            self._marks = marks
            self._send()
        else:
            self._extend(before, series)
            if marks != self._marks:
                self._marks = marks
                self._send_marks()
        self._describe()

    def _line(self) -> charts.Line:
        return charts.Line(self._metric, charts.stretch(self._series, *self._window))

    def _mark_points(self) -> dict[str, list[charts.Options]]:
        chosen = charts.chosen_marks(self._marks, *self._window)
        low, high = self._window
        there = [m for m in self._marks if _within(m.step, low, high)]
        left = len(there) - len(chosen)
        self._note.say(f"{left:,} checkpoints more than marks fit: zoom in" if left > 0 else "")
        return charts.mark_points(chosen, self._series)

    def _send(self) -> None:
        """Sends the line anew, with its marks."""
        self._added = 0
        line = {"id": "line-0", "data": charts.points(self._line().series)}
        found = self._mark_points()
        series = [line, *({"id": f"marks-{look}", "data": found[look]} for look in found)]
        self._chart.run_chart_method("setOption", {"series": series})

    def _send_marks(self) -> None:
        found = self._mark_points()
        series = [{"id": f"marks-{look}", "data": found[look]} for look in found]
        self._chart.run_chart_method("setOption", {"series": series})

    def _extend(self, before: Series, series: Series) -> None:
        came = len(series.steps) - len(before.steps)
        if not came:
            return
        self._added += came
        if came > _AT_ONCE or self._added > _ADDED:
            self._send()
            return
        last = Series(series.steps[-came:], series.at[-came:], series.values[-came:], came)
        added = json.dumps({"line-0": charts.points(last)})
        ui.run_javascript(f"window.holdfast.extend({self._chart.id}, {added})")

    # -- looking at a stretch ----------------------------------------------------------------

    def _zoomed(self, event: GenericEventArguments) -> None:
        start, end = _share(event.args)
        series = self._series
        if not len(series.steps) or start is None or end is None:
            return
        low, high = int(series.steps.min()), int(series.steps.max())
        first = None if start <= 0 else round(low + (high - low) * start / 100)
        last = None if end >= 100 else round(low + (high - low) * end / 100)
        self._resolve(first, last)

    def _typed(self) -> None:
        first, last = (None if v is None else int(v) for v in (self._from.value, self._to.value))
        if (first, last) != self._window:
            self._look_at(first, last)

    def _look_at(self, first: int | None, last: int | None) -> None:
        if not len(self._series.steps):
            return
        low, high = int(self._series.steps.min()), int(self._series.steps.max())
        self._resolve(first, last)
        where: dict[str, Any] = {"type": "dataZoom", "dataZoomIndex": [0, 1]}
        if (first, last) == (None, None):
            where |= {"start": 0, "end": 100}
        else:
            where |= {
                "startValue": low if first is None else first,
                "endValue": high if last is None else last,
            }
        self._chart.run_chart_method("dispatchAction", where)

    def _resolve(self, first: int | None, last: int | None) -> None:
        """Sends a stretch in as much detail as a screen shows."""
        if (first, last) == self._window:
            return
        self._window = (first, last)
        self._from.value, self._to.value = first, last
        self._send()


def _within(step: int, first: int | None, last: int | None) -> bool:
    return (first is None or step >= first) and (last is None or step <= last)


def _continues(before: Series, now: Series) -> bool:
    """Whether a series begins as it did: a resumed run replays what it reports anew."""
    known = len(before.at)
    return len(now.at) >= known and (not known or now.at[known - 1] == before.at[known - 1])


def _share(args: Any) -> tuple[float | None, float | None]:
    """Returns the shown part of a chart in percent; None where the event does not say it."""
    found = args
    if isinstance(args, dict) and args.get("batch"):
        found = args["batch"][0]
    if not isinstance(found, dict):
        return None, None
    start, end = found.get("start"), found.get("end")
    if isinstance(start, (int, float)) and isinstance(end, (int, float)):
        return float(start), float(end)
    return None, None
