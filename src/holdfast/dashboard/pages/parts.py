"""The small parts that pages are made of. What is shown is text: nothing here takes markup."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement

from holdfast.readable import age, iso, moment


class Tag(TextElement):
    """An HTML element whose content is text or other elements, never markup.

    Args:
        tag: The element's name.
        text: Its text.
        classes: Its classes.
        **attributes: Its attributes, with ``_`` for ``-``; values may come from a store.
    """

    def __init__(
        self, tag: str, text: str = "", /, *, classes: str = "", **attributes: object
    ) -> None:
        super().__init__(tag=tag, text=text)
        self.tag_name = tag
        if classes:
            self.classes(classes)
        for name, value in attributes.items():
            self.props[name.rstrip("_").replace("_", "-")] = value

    def say(self, text: str) -> None:
        """Shows another text; nothing goes to the browser while it is the same."""
        if self.text != text:
            self.text = text

    def put(self, name: str, value: object) -> None:
        """Sets an attribute; nothing goes to the browser while it is the same."""
        if self.props.get(name) != value:
            self.props[name] = value


class Age(Tag):
    """How long ago something was, with the exact time as its title; it grows in the browser."""

    def __init__(self, at: float | None, *, now: float) -> None:
        super().__init__("time", "-")
        self.show(at, now=now)

    def show(self, at: float | None, *, now: float) -> None:
        """Shows another moment, in seconds since the epoch; ``-`` for none."""
        if at is None:
            self.say("-")
            return
        if self.props.get("data-at") == f"{at:.3f}":
            return
        self.put("datetime", iso(at))
        self.put("title", moment(at))
        self.put("data-at", f"{at:.3f}")
        self.say(age(at, now=now))


def link(text: str, path: str, **attributes: object) -> ui.link:
    """Returns a link to another page of the dashboard."""
    made = ui.link(text, path)
    for name, value in attributes.items():
        made.props[name.replace("_", "-")] = value
    return made


def path_of_run(run: str, **asked: object) -> str:
    """Returns the path of a run's page."""
    query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in asked.items())
    return f"/run/{quote(run)}" + (f"?{query}" if query else "")


def copyable(code: str, *, label: str) -> None:
    """Shows a command or some lines of code with a button that copies them."""
    with Tag("div", classes="hf-code"):
        Tag("pre", code)
        copy_button(code, label=label)


def copy_button(code: str, *, label: str, text: str = "Copy") -> Tag:
    """Returns a button that copies a text."""
    return Tag("button", text, classes="hf-copy", type="button", data_copy=code, aria_label=label)


def table(
    titles: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str
) -> dict[int, list[Tag]]:
    """Shows a small table; a cell that is no text is called to make its content.

    Args:
        titles: The columns' titles.
        rows: The cells: text, or a callable without arguments.
        caption: What it is, for those who cannot see it.

    Returns:
        The cells, by row.
    """
    cells: dict[int, list[Tag]] = {}
    around = Tag("div", classes="hf-table-scroll", tabindex=0, role="region", aria_label=caption)
    with around, Tag("table", classes="hf-table"):
        Tag("caption", caption, classes="hf-hidden-text")
        with Tag("thead"), Tag("tr"):
            for title in titles:
                Tag("th", title, scope="col")
        with Tag("tbody"):
            for number, row in enumerate(rows):
                with Tag("tr"):
                    cells[number] = [_cell(value) for value in row]
    return cells


def _cell(value: object) -> Tag:
    if not callable(value):
        return Tag("td", str(value))
    cell = Tag("td")
    with cell:
        value()
    return cell


def pairs(values: Mapping[str, Any], *, caption: str) -> None:
    """Shows names and values, nested ones by dotted names."""
    table(("Name", "Value"), list(_flat(values)), caption=caption)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else repr(value)
