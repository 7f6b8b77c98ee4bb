"""What takes space, what a stricter policy would free, and how sound the copies are."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Final

from nicegui import Client, background_tasks, ui
from nicegui.events import GenericEventArguments

from holdfast.dashboard.pages.feed import Showing, follow
from holdfast.dashboard.pages.frame import Frame, framed
from holdfast.dashboard.pages.parts import Age, Tag, copyable, link, path_of_run, table
from holdfast.errors import HoldfastError
from holdfast.insight import Freed, Soundness, Space, freed_by, soundness_of, space_of
from holdfast.readable import count, nbytes_text

#: All checkpoints are looked at for it, so that it follows more slowly.
_INTERVAL_S: Final = 2.0
#: What was verified stands in the journals, which are read in full for it.
_SOUNDNESS_S: Final = 30.0
#: How long nobody moves a slider before a plan is made.
_STILL_S: Final = 0.3
_MOST: Final = 20
_ALL: Final = "All runs"
_ROWS: Final = 100


async def show(showing: Showing, client: Client) -> None:
    """Shows the page."""
    with framed(showing, client, title="Storage", current="Storage") as frame:
        page = _Page(showing, frame)
    await follow(client, showing.site, page.draw, interval_s=_INTERVAL_S)


class _Page:
    def __init__(self, showing: Showing, frame: Frame) -> None:
        self._showing, self._frame = showing, frame
        self._space: Space | None = None
        self._sound: Soundness | None = None
        self._asked_at = -_SOUNDNESS_S
        self._body = Tag("div")
        with self._body:
            self._totals = Tag("p")
            self._stricter = _Stricter(showing)
            self._usage = Tag("div")
            self._soundness = Tag("div")

    async def draw(self) -> None:
        self._body.visible = self._frame.stand()
        if not self._body.visible:
            return
        site, feed = self._showing.site, self._showing.feed
        store = site.store
        space = await feed.ask("space", partial(space_of, store, site.overview))
        if space != self._space:
            self._space = space
            self._draw_space(space)
        self._stricter.draw(list(space.runs))
        if time.monotonic() >= self._asked_at + _SOUNDNESS_S:
            self._asked_at = time.monotonic()
            self._draw_soundness(await feed.ask("soundness", partial(soundness_of, store)))

    def _draw_space(self, space: Space) -> None:
        saved = max(0, space.nbytes - space.stored_nbytes)
        budget = ""
        if space.budget is not None:
            share = round(100 * space.budget.share)
            budget = f" of {nbytes_text(space.budget.limit_nbytes)} ({share}%)"
        self._totals.say(
            f"{nbytes_text(space.stored_nbytes)}{budget} are stored. Sharing what did not change "
            f"saves {nbytes_text(saved)}."
        )
        self._usage.clear()
        with self._usage:
            Tag("h2", "By run")
            shown = list(space.runs.items())[:_ROWS]
            table(
                ("Run", "Checkpoints", "Stored", "Its own", "As if nothing were shared"),
                [
                    (
                        partial(link, run, path_of_run(run)),
                        f"{took.checkpoints:,}",
                        partial(_bar, took.stored_nbytes, space.stored_nbytes),
                        nbytes_text(took.unique_nbytes),
                        nbytes_text(took.nbytes),
                    )
                    for run, took in shown
                ],
                caption="What each run takes",
            )
            if len(space.runs) > len(shown):
                Tag("p", f"{count(len(space.runs) - len(shown), 'smaller run')} left out.")
            Tag("h2", "By item")
            table(
                ("Item", "Stored"),
                [
                    (item, partial(_bar, nbytes, space.stored_nbytes))
                    for item, nbytes in list(space.items.items())[:_ROWS]
                ],
                caption="What each item takes",
            )

    def _draw_soundness(self, sound: Soundness) -> None:
        if sound == self._sound:
            return
        self._sound = sound
        self._soundness.clear()
        with self._soundness:
            Tag("h2", "Verified")
            _show_verified(sound)
            Tag("h2", "Mirrors")
            _show_mirrors(sound)


def _bar(nbytes: int, total: int) -> None:
    Tag("span", nbytes_text(nbytes), classes="hf-number")
    share = 100 * nbytes / total if total else 0
    with Tag("div", classes="hf-bar", aria_hidden="true"):
        Tag("div", style=f"width: {min(share, 100):.1f}%")


def _show_verified(sound: Soundness) -> None:
    checkpoints = sum(run.checkpoints for run in sound.runs.values())
    checked = sum(run.sound for run in sound.runs.values())
    damaged = {known: why for run in sound.runs.values() for known, why in run.damaged.items()}
    with Tag("p"):
        Tag("span", f"{checked:,} of {count(checkpoints, 'checkpoint')} were read in full and ")
        Tag("span", "found sound, the last of them ")
        Age(sound.newest_at, now=time.time())
    if damaged:
        table(("Damaged", "Why"), list(damaged.items())[:_ROWS], caption="Damaged checkpoints")
        copyable("holdfast doctor --apply", label="Copy the command that heals")
    if checked < checkpoints:
        copyable("holdfast verify", label="Copy the command that verifies")


def _show_mirrors(sound: Soundness) -> None:
    if not sound.mirrors:
        Tag("p", "There is none: a second place survives what one disk does not.")
        copyable("holdfast mirror --to PATH", label="Copy the command that makes a mirror")
        return
    table(
        ("Mirror", "How far it is"),
        [
            (
                mirror.path,
                mirror.why
                if not mirror.reachable
                else f"{count(mirror.missing, 'checkpoint')} behind"
                if mirror.missing
                else f"up to date: {count(mirror.checkpoints, 'checkpoint')}",
            )
            for mirror in sound.mirrors
        ],
        caption="Mirrors",
    )
    if any(mirror.missing or not mirror.reachable for mirror in sound.mirrors):
        copyable("holdfast mirror", label="Copy the command that brings mirrors up to date")


class _Stricter:
    """Sliders over policies: what would be freed, planned in a thread, with nothing deleted."""

    def __init__(self, showing: Showing) -> None:
        self._showing = showing
        self._planning: asyncio.Task[None] | None = None
        self._runs: list[str] = []
        with Tag("section", classes="hf-card", aria_label="What a stricter policy would free"):
            Tag("h2", "What a stricter policy would free")
            with Tag("div", classes="hf-fields"):
                self._run = ui.select([_ALL], value=_ALL, label="Of", on_change=self._moved).props(
                    "outlined dense options-dense"
                )
            self._kept = {"best": 5, "latest": 2}
            self._slider("best", "Keep the best")
            self._slider("latest", "Keep the latest")
            self._answer = Tag("p", "Move a slider to see a plan.", role="status")
            self._command = Tag("div")
            Tag("p", "Nothing is deleted here.", classes="hf-faint")

    def _slider(self, name: str, label: str) -> None:
        said = Tag("div", f"{label}: {self._kept[name]}")
        slider = Tag(
            "input", type="range", min=1, max=_MOST, value=self._kept[name], aria_label=label
        )
        slider.classes("hf-wide")

        def moved(event: GenericEventArguments) -> None:
            self._kept[name] = int(event.args)
            said.say(f"{label}: {self._kept[name]}")
            self._moved()

        slider.on("input", moved, js_handler="(event) => emit(event.target.value)", throttle=0.05)

    def draw(self, runs: list[str]) -> None:
        if runs != self._runs:
            self._runs = runs
            chosen = self._run.value if self._run.value in runs else _ALL
            self._run.set_options([_ALL, *sorted(runs)], value=chosen)

    def _moved(self) -> None:
        if self._planning is not None:
            self._planning.cancel()
        self._planning = background_tasks.create(self._plan(), name="planning")

    async def _plan(self) -> None:
        await asyncio.sleep(_STILL_S)
        self._answer.say("Planning ...")
        policy = " | ".join(f"{name}({kept})" for name, kept in self._kept.items())
        run = None if self._run.value == _ALL else str(self._run.value)
        try:
            store = self._showing.site.store
            freed = await self._showing.site.ask(partial(freed_by, store, policy, run=run))
        except HoldfastError as error:
            self._answer.say(f"{error.message} ({error.hint})")
            self._command.clear()
            return
        self._answer.say(_freed_text(freed))
        self._command.clear()
        with self._command:
            copyable(_command(policy, run), label="Copy the command that shows the plan")


def _freed_text(freed: Freed) -> str:
    thinned = f", {freed.thinned:,} of them thinned" if freed.thinned else ""
    left_out = f" It says nothing of {', '.join(freed.left_out[:3])}" if freed.left_out else ""
    if len(freed.left_out) > 3:
        left_out += f" and {count(len(freed.left_out) - 3, 'other')}"
    left_out += ": no metric says what is best there." if freed.left_out else ""
    return (
        f"It would delete {count(freed.deleted, 'checkpoint')} and keep {freed.kept:,}{thinned}; "
        f"{nbytes_text(freed.nbytes)} would be free.{left_out}"
    )


def _command(policy: str, run: str | None) -> str:
    return f"holdfast prune{f' {run}' if run else ''} --policy '{policy}'"
