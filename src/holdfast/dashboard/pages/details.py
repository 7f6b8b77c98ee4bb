"""One checkpoint: what it is, why it was saved and is kept, how to load it, and pins and tags."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from nicegui import ui

import holdfast
from holdfast.dashboard.pages.feed import Showing
from holdfast.dashboard.pages.frame import Frame
from holdfast.dashboard.pages.parts import Age, Tag, copyable, pairs, table
from holdfast.errors import HoldfastError, NotFoundError
from holdfast.insight import Story, story_of
from holdfast.readable import nbytes_text, number

#: How long an action may take before it counts as unanswered.
_PATIENCE_S: Final = 15.0


def loading_line(url: str, reference: str) -> str:
    """Returns the line of Python that gets a checkpoint."""
    return f'holdfast.open({json.dumps(url)}, mode="r").get("{reference}").restore(model=model)'


class Details:
    """The place where a checkpoint is opened; empty until one is.

    Args:
        showing: What every page needs.
        frame: The page's frame, which knows whether anything may be changed.
        run: The run whose checkpoints are opened here.
    """

    def __init__(self, showing: Showing, frame: Frame, run: str) -> None:
        self._showing, self._frame, self._run = showing, frame, run
        self._open = ""
        self._shown: tuple[object, ...] | None = None
        self._section = Tag("section", aria_label="A checkpoint", id="checkpoint", tabindex=-1)
        self._section.visible = False

    async def open(self, checkpoint: str) -> None:
        """Opens a checkpoint, and goes there."""
        self._open, self._shown = checkpoint, None
        if await self.draw():
            ui.run_javascript(
                "document.getElementById('checkpoint')?.scrollIntoView({block: 'start'});"
                "document.getElementById('checkpoint')?.focus({preventScroll: true})"
            )

    async def draw(self) -> bool:
        """Shows what is said of it by now; returns whether anything was news."""
        if not self._open:
            return False
        store = self._showing.site.store
        wanted = self._open
        try:
            found = await self._showing.site.ask(partial(_look, store, self._run, wanted))
        except HoldfastError as error:
            found = (None, Story(-1, None, (f"{error.message}.", error.hint)))
        checkpoint, story = found
        state = (checkpoint.record if checkpoint else None, story, self._frame.may_act)
        if state == self._shown or wanted != self._open:
            return False
        self._shown = state
        self._section.visible = True
        self._section.clear()
        with self._section, Tag("div", classes="hf-card"):
            Tag("h2", checkpoint.id if checkpoint else wanted)
            close = Tag("button", "Close", classes="hf-button", type="button")
            close.on("click", self._close)
            if checkpoint is not None:
                self._facts(checkpoint)
            Tag("h3", "What happened to it")
            for sentence in story.sentences:
                Tag("p", sentence)
            if checkpoint is not None:
                self._commands(checkpoint)
                self._actions(checkpoint)
        return True

    def _close(self) -> None:
        self._open, self._shown = "", None
        self._section.visible = False

    def _facts(self, checkpoint: holdfast.Checkpoint) -> None:
        with Tag("p"):
            Tag("span", f"Step {checkpoint.step:,}, saved ")
            Age(checkpoint.created_at, now=time.time())
            Tag("span", f", {checkpoint.kind}{', thinned' if checkpoint.thinned else ''}")
            Tag("span", f", {nbytes_text(checkpoint.nbytes)}")
            Tag("span", f" ({nbytes_text(checkpoint.stored_nbytes)} of them new)")
        Tag("p", f"It holds {', '.join(checkpoint.items) or 'no items'}.")
        if checkpoint.parent:
            Tag("p", f"It descends from {checkpoint.parent}.")
        if checkpoint.info.damaged:
            Tag("p", "A verification found it damaged.", classes="hf-banner bad")
        if checkpoint.metrics:
            table(
                ("Metric", "Value"),
                [(name, number(value)) for name, value in sorted(checkpoint.metrics.items())],
                caption="Its metrics",
            )
        if checkpoint.metadata:
            pairs(checkpoint.metadata, caption="What its caller attached")

    def _commands(self, checkpoint: holdfast.Checkpoint) -> None:
        Tag("h3", "Use it")
        url = self._showing.site.url
        copyable(loading_line(url, checkpoint.id), label="Copy the line that loads it")
        copyable(f'run.resume("{checkpoint.id}")', label="Copy the line that resumes from it")
        copyable(f"holdfast show {checkpoint.id}", label="Copy the command that shows it")

    def _actions(self, checkpoint: holdfast.Checkpoint) -> None:
        if checkpoint.tags or checkpoint.pinned:
            said = ["pinned"] * checkpoint.pinned + [f"tag {tag}" for tag in checkpoint.tags]
            Tag("p", ", ".join(said))
        if not self._frame.may_act:
            return
        Tag("h3", "Change what is said of it")
        verb = "unpin" if checkpoint.pinned else "pin"
        path = f"/checkpoints/{quote(checkpoint.id, safe='')}"
        with Tag("div", classes="hf-fields"):
            _button(verb.capitalize(), partial(self._act, "POST", f"{path}/{verb}"))
            field = ui.input("A tag to add").props("outlined dense")

            async def add() -> None:
                if field.value:
                    await self._act("POST", f"{path}/tags", {"tags": [field.value]})

            field.on("keydown.enter", add)
            _button("Add the tag", add)
            for tag in checkpoint.tags:
                gone = f"{path}/tags/{quote(tag, safe='')}"
                _button(f"Take away {tag}", partial(self._act, "DELETE", gone))

    async def _act(self, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        # By the API, from the browser: whether it may is asked there, at that moment.
        asked = ", ".join(json.dumps(part) for part in (method, path, body))
        answer = await ui.run_javascript(
            f"return await window.holdfast.act({asked})", timeout=_PATIENCE_S
        )
        if answer and not answer.get("ok"):
            with self._section:
                ui.notify(str(answer.get("text")), type="negative", position="top")


def _button(text: str, pressed: Callable[[], Any]) -> None:
    Tag("button", text, classes="hf-button", type="button").on("click", pressed)


def _look(
    store: holdfast.Store, run: str, checkpoint: str
) -> tuple[holdfast.Checkpoint | None, Story]:
    story = story_of(store, run, checkpoint)
    if story.checkpoint is None:
        return None, story
    try:
        return store.get(story.checkpoint), story
    except NotFoundError:
        # Deleted since: what happened to it is known all the same.
        return None, story
