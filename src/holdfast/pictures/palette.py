"""The colours of a chart, for light and dark paper.

The marks' colours are those of Okabe and Ito (Color Universal Design, 2008), which people tell
apart whatever colours they see; on dark paper they are lighter. Each mark has a shape of its own
besides.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours as ``#rrggbb``, no two of them the same.

    Attributes:
        paper: What everything stands on.
        ink: Names and titles.
        muted: Numbers at the axes.
        grid: Lines of the grid, and frames.
        line: A metric's line.
        kept: Checkpoints that are there, whole or thinned.
        deleted: Checkpoints that are gone.
        failed: Saves that failed.
        best: The best checkpoint.
        pinned: The ring around what is pinned.
    """

    paper: str
    ink: str
    muted: str
    grid: str
    line: str
    kept: str
    deleted: str
    failed: str
    best: str
    pinned: str

    def named(self) -> dict[str, str]:
        """Returns the colours by their names."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


LIGHT: Final = Palette(
    paper="#ffffff",
    ink="#1b2026",
    muted="#5b6570",
    grid="#e4e8ec",
    line="#0072b2",
    kept="#009e73",
    deleted="#8b95a0",
    failed="#d55e00",
    best="#e69f00",
    pinned="#aa4499",
)
DARK: Final = Palette(
    paper="#14181d",
    ink="#e8ebee",
    muted="#9ba6b1",
    grid="#2c343c",
    line="#56b4e9",
    kept="#2fd0a0",
    deleted="#7c8792",
    failed="#ff8a45",
    best="#f5c542",
    pinned="#e79ad0",
)
