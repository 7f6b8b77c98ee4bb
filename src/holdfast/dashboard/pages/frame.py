"""What all pages share: the head with its links, the theme, and how the store stands."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote

from nicegui import Client, ui

from holdfast.dashboard.pages.feed import Showing
from holdfast.dashboard.pages.parts import Tag, copyable, link
from holdfast.dashboard.site import State

_PAGES: Final = (
    ("Overview", "/"),
    ("Compare", "/compare"),
    ("Storage", "/storage"),
    ("Lineage", "/lineage"),
)


class Frame:
    """A page's head, and the place for what is wrong with the store.

    Attributes:
        main: Where the page's own content goes.
        may_act: Whether who looks at it may change anything.
    """

    def __init__(self, showing: Showing, client: Client, *, current: str) -> None:
        self._showing = showing
        self._client = client
        self._state: State | None = None
        with Tag("div", classes="hf-page"):
            self._head(current)
            self._banner = Tag("div", aria_live="polite")
            # What the browser says to those who cannot see it.
            Tag("div", classes="hf-hidden-text", aria_live="polite", data_said="")
            self.main = Tag("main", tabindex=-1)
        ui.skip_link("Skip to the content", target=self.main)

    @property
    def may_act(self) -> bool:
        """Asked each time: a session may have ended since the page was drawn."""
        return self._showing.may_act(self._client.request)

    def _head(self, current: str) -> None:
        with Tag("header", classes="hf-head"):
            Tag("span", "Holdfast", classes="hf-name")
            with Tag("nav", aria_label="Pages"):
                for text, path in _PAGES:
                    made = link(text, path)
                    if text == current:
                        made.props["aria-current"] = "page"
            Tag("span", self._showing.site.url, classes="hf-place", title="The store on show")
            self._standing()
            Tag("button", "Theme: system", classes="hf-button", type="button", data_theme_switch="")

    def _standing(self) -> None:
        """Shows whether who looks may change anything, and how to come to that."""
        log_in = self._showing.log_in
        if not self.may_act:
            Tag("span", "read only", classes="hf-faint", title="Nothing here changes the store")
            if log_in:
                here = quote(self._client.request.url.path, safe="/")
                Tag("a", "Log in", href=f"{log_in}?next={here}")
        elif log_in:
            with Tag("form", method="post", action="/logout"):
                Tag("button", "Log out", classes="hf-button", type="submit")

    def stand(self) -> bool:
        """Shows how the store stands; returns whether there is anything to show of it."""
        state = self._showing.site.state
        if state != self._state:
            self._state = state
            self._banner.clear()
            if state.standing != "ok":
                with self._banner, Tag("div", classes="hf-banner bad", role="alert"):
                    Tag("b", state.text)
                    Tag("p", state.hint)
                    Tag("p", "This page goes on by itself when the store is there.")
        return state.standing == "ok"


@contextlib.contextmanager
def framed(showing: Showing, client: Client, *, title: str, current: str = "") -> Iterator[Frame]:
    """Makes a page's frame; what is made in the block goes into its main part.

    Args:
        showing: What every page needs.
        client: The page.
        title: Its title.
        current: The link in the head that leads to it; empty for none.
    """
    client.title = f"{title} - Holdfast"
    frame = Frame(showing, client, current=current)
    with frame.main:
        Tag("h1", title)
        yield frame


def beginning(url: str) -> None:
    """Shows how to begin, where a store is still empty."""
    Tag("p", "There is no run in this store yet. Three lines begin one:")
    copyable(
        f"store = holdfast.open({url!r})\n"
        'with store.run("first", metric="loss") as run:\n'
        "    run.attach(model=model)    # then, at each step: run.step(step, loss=loss)",
        label="Copy the lines that begin a run",
    )
