"""What stands on a screen, as values: lines and tables, before a terminal makes them fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column.

    Attributes:
        title: Its heading.
        right: Whether it is aligned to the right, as numbers are.
        style: A style of rich.
        wraps: Whether long text goes on in the next line on a narrow terminal.
        rank: In which order columns give way on a narrow terminal: the highest first, 0 never.
    """

    title: str
    right: bool = False
    style: str = ""
    wraps: bool = False
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Words:
    """A line of text.

    Attributes:
        text: The text.
        style: A style of rich.
        whole: Whether what does not fit goes on in the next line, or is cut off.
    """

    text: str
    style: str = ""
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Grid:
    """A table."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """A screenful, from top to bottom; two that are equal look the same."""

    parts: Sequence[Words | Grid]
