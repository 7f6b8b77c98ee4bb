"""An SVG as a part of a page: its ids are its own, its colours the page's."""

from __future__ import annotations

import re
from html import escape
from typing import Final

from holdfast.pictures.palette import Palette
from holdfast.readable import printable

#: A tag; what stands between tags is text and stays as it is.
_TAG: Final = re.compile(r"<[a-zA-Z][^<>]*>")
_ID: Final = re.compile(r'(\bid="|\bxlink:href="#|\burl\(#)')
_ROOT: Final = re.compile(r'<svg[^>]*\bviewBox="(?P<box>[^"]*)"[^>]*>')
#: What says when and how it was made, and a style that would be the whole page's.
_BESIDES: Final = re.compile(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", re.DOTALL)


def inlined(svg: str, palette: Palette, *, name: str, label: str) -> str:
    """Returns an SVG of `chart` for the inside of a page.

    Args:
        svg: The SVG.
        palette: The colours that it was drawn in; they become ``var(--chart-paper)`` and so on.
        name: What its ids begin with; another one for each picture of a page.
        label: What is read aloud in its place; text, escaped here.

    Returns:
        An ``svg`` element as wide as its place.
    """

    def owned(tag: re.Match[str]) -> str:
        text = _ID.sub(rf"\g<1>{name}-", tag.group())
        for colour, value in palette.named().items():
            text = text.replace(value, f"var(--chart-{colour})")
        return text

    start = _ROOT.search(svg)
    if start is None:
        return ""
    body = _BESIDES.sub("", svg[start.end() :])
    opening = f'<svg viewBox="{start["box"]}" role="img" aria-label="{escape(printable(label))}">'
    return opening + _TAG.sub(owned, body)
