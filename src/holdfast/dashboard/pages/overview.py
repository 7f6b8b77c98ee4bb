"""The first page: what needs attention, the totals, and every run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Final

from nicegui import Client, ui

from holdfast.dashboard.pages.charts import spark_points
from holdfast.dashboard.pages.feed import Showing, follow
from holdfast.dashboard.pages.frame import beginning, framed
from holdfast.dashboard.pages.parts import Age, Tag, link, path_of_run
from holdfast.insight import Alert, RunSummary, StoreSummary
from holdfast.readable import count, nbytes_text, number

#: Runs that are shown at once; the rest comes when it is asked for.
_PAGE: Final = 50
#: Fewer need no field to find one.
_FEW: Final = 8
_BESTS: Final = 4
_FIRST: Final = ("loss", "accuracy")
_TITLES: Final = ("Run", "State", "Best", "Step", "Last checkpoint", "Course", "Stored")


async def show(showing: Showing, client: Client) -> None:
    """Shows the page."""
    with framed(showing, client, title="Overview", current="Overview") as frame:
        page = _Page(showing)

    async def draw() -> None:
        if page.show(frame.stand()):
            overview = showing.site.overview
            page.draw(await showing.feed.ask("overview", overview.summary), now=time.time())

    await follow(client, showing.site, draw)


class _Page:
    """What is drawn once and kept up to date."""

    def __init__(self, showing: Showing) -> None:
        self._url = showing.site.url
        self._alerts_shown: tuple[Alert, ...] | None = None
        self._empty: bool | None = None
        self._body = Tag("div")
        with self._body:
            self._alerts = Tag("div")
            self._totals = _Totals()
            self._begin = Tag("div")
            self._runs = _Runs()

    def show(self, visible: bool) -> bool:
        self._body.visible = visible
        return visible

    def draw(self, summary: StoreSummary, *, now: float) -> None:
        if summary.alerts != self._alerts_shown:
            self._alerts_shown = summary.alerts
            self._alerts.clear()
            with self._alerts:
                show_alerts(summary.alerts)
        self._totals.draw(summary, now=now)
        empty = not summary.runs
        if empty != self._empty:
            self._empty = empty
            self._begin.clear()
            if empty:
                with self._begin:
                    beginning(self._url)
        self._runs.draw(summary.runs, now=now)


def show_alerts(alerts: Iterable[Alert]) -> None:
    """Shows what needs attention, with what to do about it."""
    found = list(alerts)
    if not found:
        return
    with Tag("ul", classes="hf-alerts", aria_label="What needs attention"):
        for alert in found:
            with Tag("li", classes=f"hf-alert {alert.severity}"):
                Tag("b", f"{alert.severity.capitalize()}: {alert.text}")
                Tag("span", alert.hint)
                if alert.run:
                    Tag("span", " ")
                    link(f"Look at {alert.run}", path_of_run(alert.run))


class _Totals:
    """The store in numbers."""

    def __init__(self) -> None:
        with Tag("dl", classes="hf-totals"):
            self._checkpoints = _total("Checkpoints saved")
            self._best_place = Tag("div", style="display: contents")
            with Tag("div", classes="hf-total"):
                Tag("dt", "Stored")
                with Tag("dd"):
                    self._stored = Tag("span", "-")
                    self._bar = Tag("div", classes="hf-bar", role="progressbar")
                    with self._bar:
                        self._used = Tag("div")
            with Tag("div", classes="hf-total"):
                Tag("dt", "Last checkpoint")
                with Tag("dd"):
                    self._last = Age(None, now=0.0)
        self._bests: dict[str, Tag] = {}

    def draw(self, summary: StoreSummary, *, now: float) -> None:
        self._checkpoints.say(f"{summary.checkpoints:,}")
        self._last.show(summary.last_saved_at, now=now)
        self._draw_bests(summary.best)
        budget = summary.budget
        self._bar.visible = budget is not None
        if budget is None:
            self._stored.say(nbytes_text(summary.stored_nbytes))
            return
        self._stored.say(f"{nbytes_text(budget.used_nbytes)} / {nbytes_text(budget.limit_nbytes)}")
        share = round(100 * budget.share)
        for name, value in (("valuemin", 0), ("valuemax", 100), ("valuenow", min(share, 100))):
            self._bar.put(f"aria-{name}", value)
        self._bar.put("aria-label", f"{share}% of the budget is stored")
        self._bar.classes(replace="hf-bar over" if budget.exceeded else "hf-bar")
        self._used.put("style", f"width: {min(share, 100)}%")

    def _draw_bests(self, best: Mapping[str, float]) -> None:
        # Loss and accuracy come first: they are what people ask for.
        names = sorted(best, key=lambda name: (name not in _FIRST, name))[:_BESTS]
        if list(self._bests) != names:
            self._best_place.clear()
            with self._best_place:
                self._bests = {name: _total(f"Best {name}") for name in names}
        for name, value in self._bests.items():
            value.say(number(best[name]))


def _total(title: str) -> Tag:
    with Tag("div", classes="hf-total"):
        Tag("dt", title)
        return Tag("dd", "-")


class _Runs:
    """A row for each run, the first ones at once."""

    def __init__(self) -> None:
        self._shown = _PAGE
        self._wanted = ""
        self._all: tuple[RunSummary, ...] = ()
        self._rows: dict[str, _Row] = {}
        self._body = Tag("section", aria_label="Runs")
        with self._body:
            Tag("h2", "Runs")
            with Tag("div", classes="hf-fields") as self._fields:
                ui.input("Find a run", on_change=lambda event: self._find(event.value)).props(
                    "outlined dense clearable debounce=200"
                )
            with Tag("div", classes="hf-run hf-titles", aria_hidden="true"):
                for title in _TITLES:
                    Tag("span", title)
            self._list = Tag("ul", classes="hf-rows")
            self._more = Tag("button", "", classes="hf-button", type="button")
            self._more.on("click", self._show_more)

    def draw(self, runs: tuple[RunSummary, ...], *, now: float) -> None:
        self._all = runs
        self._body.visible = bool(runs)
        self._fields.visible = len(runs) > _FEW
        found = [run for run in runs if self._wanted in run.info.name.lower()]
        shown = found[: self._shown]
        names = [run.info.name for run in shown]
        if list(self._rows) != names:
            self._list.clear()
            with self._list:
                self._rows = {name: _Row(name) for name in names}
        for run in shown:
            self._rows[run.info.name].draw(run, now=now)
        left = len(found) - len(shown)
        self._more.visible = left > 0
        self._more.say(f"Show {min(left, _PAGE)} more of {count(left, 'run')}")

    def _find(self, text: str | None) -> None:
        self._wanted = (text or "").strip().lower()
        self.draw(self._all, now=time.time())

    def _show_more(self) -> None:
        self._shown += _PAGE
        self.draw(self._all, now=time.time())


class _Row:
    """A run."""

    def __init__(self, name: str) -> None:
        with Tag("li", classes="hf-run"):
            with Tag("div", classes="hf-first"):
                link(name, path_of_run(name))
            with Tag("div"):
                self._state = Tag("span", classes="hf-state")
            self._best = _labelled("Best")
            self._step = _labelled("Step")
            with Tag("div", data_label="Saved"):
                self._age = Age(None, now=0.0)
            with Tag("div", classes="hf-spark-cell"):
                self._spark = Tag(
                    "svg", classes="hf-spark", viewBox="0 0 100 28", preserveAspectRatio="none"
                )
                self._spark.put("aria-hidden", "true")
                with self._spark:
                    self._line = Tag("polyline", points="")
            self._stored = _labelled("Stored")

    def draw(self, run: RunSummary, *, now: float) -> None:
        info = run.info
        if self._state.text != info.status:
            self._state.classes(replace=f"hf-state {info.status}")
        self._state.say(info.status)
        best = number(run.best_value) if run.best else "-"
        self._best.say(f"{info.metric} {best}" if info.metric else best)
        self._step.say("-" if run.last_step is None else f"{run.last_step:,}")
        self._age.show(run.latest.created_at if run.latest else None, now=now)
        self._stored.say(nbytes_text(run.stored_nbytes))
        self._line.put("points", spark_points(run.spark, width=100, height=28))


def _labelled(label: str) -> Tag:
    return Tag("div", "-", classes="hf-number", data_label=label)
