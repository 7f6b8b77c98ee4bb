"""What a run decided, newest first, and the field that answers why."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from nicegui import ui

from holdfast.dashboard.pages.feed import Showing
from holdfast.dashboard.pages.parts import Age, Tag
from holdfast.errors import HoldfastError
from holdfast.insight import story_of
from holdfast.model import Decision

_PAGE: Final = 20
_FATES: Final = {
    "": "all decisions",
    "saved": "saved",
    "skipped": "not saved",
    "failed": "save failed",
    "kept": "kept",
    "thinned": "thinned",
    "deleted": "deleted",
}


class Why:
    """The field that takes a step or an id, and answers in sentences.

    Args:
        showing: What every page needs.
        run: The run's name.
    """

    def __init__(self, showing: Showing, run: str) -> None:
        self._showing, self._run = showing, run
        with Tag("section", aria_label="Why was it saved or deleted?"):
            Tag("h2", "Why was it saved or deleted?")
            with Tag("div", classes="hf-fields"):
                self._field = ui.input("A step, an id, best, latest or tag:name").props(
                    "outlined dense"
                )
                self._field.on("keydown.enter", self._ask)
                asked = Tag("button", "Explain", classes="hf-button", type="button")
                asked.on("click", self._ask)
            self._answer = Tag("div", classes="hf-answer", aria_live="polite")

    async def _ask(self) -> None:
        await self.answer(self._field.value or "")

    async def answer(self, asked: str) -> None:
        """Answers a question; an empty one takes the last answer away."""
        self._answer.clear()
        if not asked.strip():
            return
        store = self._showing.site.store
        try:
            story = await self._showing.site.ask(lambda: story_of(store, self._run, asked))
        except HoldfastError as error:
            said = [f"{error.message}.", error.hint]
        else:
            said = list(story.sentences)
        with self._answer:
            for sentence in said:
                Tag("p", sentence)


class DecisionLog:
    """Decisions, newest first, those of one kind or of one text on demand."""

    def __init__(self) -> None:
        self._all: Sequence[Decision] = ()
        self._shown: list[Decision] = []
        self._most = _PAGE
        with Tag("section", aria_label="Decisions"):
            Tag("h2", "Decisions")
            with Tag("div", classes="hf-fields"):
                self._fate = ui.select(
                    _FATES, value="", label="Which", on_change=self._choose
                ).props("outlined dense options-dense")
                self._text = ui.input("Containing", on_change=self._choose).props(
                    "outlined dense clearable debounce=250"
                )
            self._list = Tag("ol", classes="hf-log")
            self._more = Tag("button", "Show more", classes="hf-button", type="button")
            self._more.on("click", self._show_more)

    def draw(self, decisions: Sequence[Decision]) -> None:
        """Shows what is new; what is there already stays."""
        if len(decisions) == len(self._all) and decisions[-1:] == self._all[-1:]:
            return
        self._all = decisions
        self._arrange()

    def _choose(self) -> None:
        self._most = _PAGE
        self._arrange()

    def _show_more(self) -> None:
        self._most += _PAGE
        self._arrange()

    def _arrange(self) -> None:
        wanted, found = self._wanted()
        known = self._shown
        # What came on top of what is shown is put there alone.
        came = wanted.index(known[0]) if known and known[0] in wanted else len(wanted)
        if wanted[came:] == known[: len(wanted) - came] and came < len(wanted):
            self._put_on_top(wanted[:came])
        else:
            self._list.clear()
            with self._list:
                for decision in wanted:
                    _row(decision)
        self._shown = wanted
        self._more.visible = found > len(wanted)
        self._more.say(f"Show {min(_PAGE, found - len(wanted))} more of {found:,}")

    def _wanted(self) -> tuple[list[Decision], int]:
        fate, text = self._fate.value or "", (self._text.value or "").lstrip().lower()
        fitting = [
            decision
            for decision in reversed(self._all)
            if (not fate or decision.fate == fate) and (not text or text in _words(decision))
        ]
        return fitting[: self._most], len(fitting)

    def _put_on_top(self, decisions: Sequence[Decision]) -> None:
        for decision in reversed(decisions):
            with self._list:
                row = _row(decision)
            row.move(self._list, 0)
        rows = list(self._list)
        for old in rows[self._most :]:
            old.delete()


def _words(decision: Decision) -> str:
    return f"step {decision.step} {decision.checkpoint_id or ''} {decision.reason}".lower()


def _row(decision: Decision) -> Tag:
    with Tag("li") as row:
        Age(decision.at, now=time.time())
        what = decision.checkpoint_id or f"step {decision.step}"
        Tag("span", f" · step {decision.step:,} · {_FATES[decision.fate]} · ")
        Tag("span", what if decision.checkpoint_id else "", classes="hf-faint")
        Tag("p", decision.reason)
    return row
