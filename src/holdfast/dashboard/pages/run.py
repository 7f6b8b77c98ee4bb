"""A run's page: its metrics with its checkpoints on them, what was decided, how it was set up."""

from __future__ import annotations

import time
from functools import partial
from typing import Final

from nicegui import Client, ui

from holdfast.dashboard.pages.curves import Curves
from holdfast.dashboard.pages.decisions import DecisionLog, Why
from holdfast.dashboard.pages.details import Details, loading_line
from holdfast.dashboard.pages.feed import Showing, follow
from holdfast.dashboard.pages.frame import Frame, framed
from holdfast.dashboard.pages.grid import CheckpointTable
from holdfast.dashboard.pages.overview import show_alerts
from holdfast.dashboard.pages.parts import Age, Tag, link, pairs, path_of_run
from holdfast.dashboard.pages.saves import SaveCurves
from holdfast.errors import NotFoundError
from holdfast.insight import Alert, CloseUp, close_up
from holdfast.model import RunInfo
from holdfast.readable import nbytes_text, number

#: How long what was seen of a run that rests is believed, unless its mark changes.
_REST_S: Final = 30.0


async def show(showing: Showing, client: Client, run: str, *, checkpoint: str = "") -> None:
    """Shows the page of a run.

    Args:
        showing: What every page needs.
        client: The page.
        run: The run's name; one that does not exist yet is waited for.
        checkpoint: Id of a checkpoint to open at once; empty for none.
    """
    with framed(showing, client, title=run) as frame:
        page = _Page(showing, frame, run, checkpoint)
    await follow(client, showing.site, page.draw)


class _Page:
    def __init__(self, showing: Showing, frame: Frame, run: str, checkpoint: str) -> None:
        self._showing, self._frame, self._run = showing, frame, run
        self._asked = checkpoint
        self._alerts_shown: tuple[Alert, ...] = ()
        self._setup_shown: RunInfo | None = None
        self._believed: tuple[object, float, str] = (None, 0.0, "")
        self._missing = Tag("p", role="status")
        self._body = Tag("div")
        with self._body:
            self._alerts = Tag("div")
            self._facts = _Facts()
            self._curves = Curves(showing.feed, run)
            self._details = Details(showing, frame, run)
            self._table = CheckpointTable(run, load=loading_line(showing.site.url, "ID"))
            self._why = Why(showing, run)
            self._log = DecisionLog()
            self._saves = SaveCurves()
            self._setup = Tag("section", aria_label="How it was set up")
        # A click on a mark of a chart, or in the table.
        ui.on("open-checkpoint", lambda event: self._details.open(str(event.args)))

    async def draw(self) -> None:
        self._body.visible = self._frame.stand()
        if not self._body.visible:
            return
        site = self._showing.site
        store, overview = site.store, site.overview
        feed = self._showing.feed
        version = (await feed.ask("versions", store.versions)).get(self._run)
        if not self._is_news(version):
            await self._details.draw()
            return
        try:
            seen = await feed.ask(("run", self._run), partial(close_up, store, overview, self._run))
        except NotFoundError as error:
            self._body.visible = False
            self._missing.say(f"{error.message}: {error.hint}")
            return
        self._believed = (version, time.monotonic() + _REST_S, seen.info.status)
        self._missing.say("")
        self._facts.draw(seen, now=time.time())
        if seen.alerts != self._alerts_shown:
            self._alerts_shown = seen.alerts
            self._alerts.clear()
            with self._alerts:
                show_alerts(seen.alerts)
        await self._curves.draw(seen)
        self._table.draw(seen)
        if self._asked:
            asked, self._asked = self._asked, ""
            await self._details.open(asked)
        else:
            await self._details.draw()
        self._log.draw(seen.decisions)
        self._saves.draw(seen)
        self._draw_setup(seen.info)

    def _is_news(self, version: object) -> bool:
        """Whether the run has to be looked at: one that rests is so when its mark changes."""
        known, until, status = self._believed
        rests = status not in ("", "running")
        return self._asked != "" or not rests or version != known or time.monotonic() > until

    def _draw_setup(self, info: RunInfo) -> None:
        if info == self._setup_shown:
            return
        self._setup_shown = info
        self._setup.clear()
        with self._setup:
            for title, values in (
                ("Policies", info.policies),
                ("Configuration", info.config),
                ("Environment", info.environment),
            ):
                if values:
                    Tag("h2", title)
                    pairs(values, caption=title)


class _Facts:
    """The run in numbers."""

    def __init__(self) -> None:
        with Tag("dl", classes="hf-totals"):
            self._state = _fact("State")
            self._metric = _fact("Best")
            self._step = _fact("Step")
            self._checkpoints = _fact("Checkpoints")
            self._stored = _fact("Stored")
            with Tag("div", classes="hf-total"):
                Tag("dt", "Last checkpoint")
                with Tag("dd"):
                    self._last = Age(None, now=0.0)
        self._parent = Tag("p")
        self._parent_shown: str | None = None

    def draw(self, seen: CloseUp, *, now: float) -> None:
        info = seen.info
        self._state.say(info.status)
        best = seen.best.metrics.get(info.metric or "") if seen.best else None
        self._metric.say(f"{info.metric or ''} {number(best)}".strip())
        last = seen.course.last
        self._step.say("-" if last is None else f"{last.step:,}")
        self._checkpoints.say(f"{seen.checkpoints:,}")
        self._stored.say(nbytes_text(seen.stored_nbytes))
        self._stored.put("title", f"{nbytes_text(seen.unique_nbytes)} of it no other run holds")
        self._last.show(seen.latest.created_at if seen.latest else None, now=now)
        if info.parent != self._parent_shown:
            self._parent_shown = info.parent
            self._parent.clear()
            if info.parent:
                with self._parent:
                    Tag("span", "It started from ")
                    link(info.parent, path_of_run(info.parent))


def _fact(title: str) -> Tag:
    with Tag("div", classes="hf-total"):
        Tag("dt", title)
        return Tag("dd", "-")
