"""Checkpoints or runs side by side: metrics, courses, configuration, tensors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final
from urllib.parse import quote

from nicegui import Client, ui

import holdfast
from holdfast.dashboard.pages import charts
from holdfast.dashboard.pages.feed import Showing, follow
from holdfast.dashboard.pages.frame import Frame, framed
from holdfast.dashboard.pages.parts import Tag, link, path_of_run, table
from holdfast.dashboard.pages.tensors import TensorPair
from holdfast.insight import Comparison, Course, Series, compare
from holdfast.readable import number

_INTERVAL_S: Final = 1.0
#: Columns that still fit side by side.
_MOST: Final = 8
_SUGGESTED: Final = 200


async def show(showing: Showing, client: Client, asked: Sequence[str]) -> None:
    """Shows the page.

    Args:
        showing: What every page needs.
        client: The page.
        asked: References, ids, or names of runs to begin with.
    """
    with framed(showing, client, title="Compare", current="Compare") as frame:
        page = _Page(showing, frame, asked)
    await follow(client, showing.site, page.draw, interval_s=_INTERVAL_S)


class _Page:
    def __init__(self, showing: Showing, frame: Frame, asked: Sequence[str]) -> None:
        self._showing, self._frame = showing, frame
        self._asked = list(dict.fromkeys(asked))[:_MOST]
        self._options: list[str] = []
        self._shown: Comparison | None = None
        self._body = Tag("div")
        with self._body:
            with Tag("div", classes="hf-fields"):
                self._select = ui.select(
                    self._asked,
                    value=list(self._asked),
                    label="Runs, ids, run@best, run@latest, run@step:400",
                    multiple=True,
                    with_input=True,
                    new_value_mode="add-unique",
                    on_change=self._choose,
                ).props("outlined dense use-chips options-dense")
                self._select.style("flex: 1 1 100%")
            self._said = Tag("p", role="status")
            self._sides = Tag("div")
            self._courses = _Courses(showing)
            self._tensors = Tag("div")

    async def draw(self) -> None:
        self._body.visible = self._frame.stand()
        if not self._body.visible:
            return
        store, feed = self._showing.site.store, self._showing.feed
        options = await feed.ask("suggestions", partial(_suggestions, store))
        if options != self._options:
            self._options = options
            self._select.set_options([*options, *(a for a in self._asked if a not in options)])
        asked = tuple(self._asked)
        found = await feed.ask(("compare", asked), partial(compare, store, asked))
        if asked != tuple(self._asked):
            return
        await self._courses.draw(found)
        if found == self._shown:
            return
        before, self._shown = self._shown, found
        self._said.say(_said(found))
        self._sides.clear()
        with self._sides:
            _show_sides(found)
        ids = [entry.info.id for entry in found.entries]
        if before is None or ids != [entry.info.id for entry in before.entries]:
            self._tensors.clear()
            with self._tensors:
                for other in ids[1:]:
                    if other != ids[0]:
                        pair = TensorPair(self._showing, ids[0], other)
                        await pair.draw()

    async def _choose(self) -> None:
        self._asked = [str(text).strip() for text in self._select.value or []][:_MOST]
        query = "&".join(f"with={quote(text, safe='')}" for text in self._asked)
        ui.navigate.history.replace(f"/compare?{query}" if query else "/compare")
        await self.draw()


def _said(found: Comparison) -> str:
    problems = "; ".join(found.problems.values())
    if len(found.entries) < 2 and not problems:
        return "Choose two or more."
    return problems


def _show_sides(found: Comparison) -> None:
    if not found.entries:
        return
    titles = [entry.asked for entry in found.entries]
    infos = [entry.info for entry in found.entries]
    Tag("h2", "Metrics")
    table(
        ("", *titles),
        [
            ("Run", *(partial(link, info.run, path_of_run(info.run)) for info in infos)),
            (
                "Checkpoint",
                *(partial(link, i.id, path_of_run(i.run, checkpoint=i.id)) for i in infos),
            ),
            ("Step", *(f"{info.step:,}" for info in infos)),
            *((name, *map(number, values)) for name, values in found.metrics.items()),
        ],
        caption="Metrics side by side",
    )
    Tag("h2", "Configuration")
    if not found.config:
        Tag("p", "It is the same." if len(infos) > 1 else "Nothing to compare it with yet.")
        return
    table(
        ("What differs", *titles),
        [(path, *values) for path, values in found.config.items()],
        caption="What differs in the configuration",
    )


class _Courses:
    """A metric of all runs in one chart."""

    def __init__(self, showing: Showing) -> None:
        self._showing = showing
        self._metric = ""
        self._found: Comparison | None = None
        self._drawn: tuple[object, ...] | None = None
        self._section = Tag("section", aria_label="Courses")
        with self._section:
            Tag("h2", "Courses")
            with Tag("div", classes="hf-fields"):
                self._select = ui.select([], label="Metric", on_change=self._choose).props(
                    "outlined dense options-dense"
                )
            self._key = Tag("ul", classes="hf-key", aria_label="Lines")
            self._place = Tag("div")
        self._section.visible = False

    async def draw(self, found: Comparison) -> None:
        self._found = found
        self._section.visible = bool(found.entries)
        if not found.entries:
            return
        overview, feed = self._showing.site.overview, self._showing.feed
        courses: dict[str, Course] = {}
        for run in found.runs:
            courses[run] = await feed.ask(("course", run), partial(overview.course, run))
        names = await feed.ask(("metrics", found.runs), partial(_names, courses))
        if list(self._select.options) != names:
            self._metric = self._metric if self._metric in names else next(iter(names), "")
            self._select.set_options(names, value=self._metric or None)
        lines: list[charts.Line] = []
        for place, (run, course) in enumerate(courses.items()):
            series: Series = await feed.ask(
                ("thin", run, self._metric), partial(_thin, course, self._metric)
            )
            lines.append(charts.Line(run, series, charts.COLOURS[place % len(charts.COLOURS)]))
        drawn = (self._metric, *((line.name, line.series.total) for line in lines))
        if drawn != self._drawn:
            self._drawn = drawn
            self._show(lines)

    def _show(self, lines: Sequence[charts.Line]) -> None:
        self._key.clear()
        with self._key:
            for place, line in enumerate(lines):
                dash = charts.DASHES[place % len(charts.DASHES)]
                with Tag("li"):
                    stroke = f"border-top: 3px {dash} {line.colour}"
                    Tag("span", classes="hf-stroke", style=stroke, aria_hidden="true")
                    Tag("span", f"{line.name} ({dash})")
        self._place.clear()
        label = f"{self._metric} of {', '.join(line.name for line in lines)}"
        with self._place, Tag("div", role="img", aria_label=label):
            ui.echart(charts.metric_chart(lines)).classes("hf-chart")

    async def _choose(self) -> None:
        self._metric = str(self._select.value or "")
        if self._found is not None:
            await self.draw(self._found)


def _names(courses: dict[str, Course]) -> list[str]:
    """Returns metrics, those that all runs have first."""
    counted: dict[str, int] = {}
    for course in courses.values():
        for name in course.metrics:
            counted[name] = counted.get(name, 0) + 1
    return sorted(counted, key=lambda name: (-counted[name], name))


def _thin(course: Course, metric: str) -> Series:
    return course.series(metric).thinned(charts.POINTS)


def _suggestions(store: holdfast.Store) -> list[str]:
    """Returns what can be compared: runs, their best and latest, and the newest checkpoints."""
    runs = [run.name for run in store.runs()][:_SUGGESTED]
    ids = [checkpoint.id for checkpoint in store.checkpoints(limit=_SUGGESTED)]
    return [*(f"{run}@{which}" for run in runs for which in ("best", "latest")), *runs, *ids]
