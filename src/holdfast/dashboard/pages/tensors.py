"""The tensors of two checkpoints: what changed, and, on demand, how far it moved."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from holdfast.dashboard.pages.feed import Showing
from holdfast.dashboard.pages.parts import Tag, table
from holdfast.errors import HoldfastError
from holdfast.insight import difference
from holdfast.readable import count, number

_NAMED: Final = 20
_ROWS: Final = 100


class TensorPair:
    """How the tensors of two checkpoints differ.

    Args:
        showing: What every page needs.
        a: Id of the first.
        b: Id of the second.
    """

    def __init__(self, showing: Showing, a: str, b: str) -> None:
        self._showing, self._a, self._b = showing, a, b
        with Tag("section", classes="hf-card", aria_label=f"Tensors of {a} and {b}"):
            Tag("h2", "Tensors")
            Tag("p", f"From {a} to {b}", classes="hf-faint")
            self._place = Tag("div")
            self._measure = Tag(
                "button", "Measure how far they moved", classes="hf-button", type="button"
            )
            self._measure.on("click", self._norms)
            self._said = Tag("p", role="status")
            self._moved = Tag("div")
        self._measure.visible = False

    async def draw(self) -> None:
        """Shows what changed, by digests: no tensor is read."""
        found = await self._ask(norms=False)
        if found is None:
            return
        with self._place:
            table(
                ("Item", "Same", "Changed", "Only in the second", "Only in the first"),
                [
                    (item, *(f"{len(names):,}" for names in _parts(change)))
                    for item, change in found.items.items()
                ],
                caption="What became of the tensors",
            )
            if found.same_tensors:
                Tag("p", "All tensors are the same to the bit.")
            for title in ("changed", "added", "removed"):
                _show_names(title, found.items)
        self._measure.visible = any(change.changed for change in found.items.values())

    async def _norms(self) -> None:
        self._measure.visible = False
        self._said.say("Reading the tensors that changed, each once ...")
        found = await self._ask(norms=True)
        if found is None:
            return
        moved = [
            (f"{item}.{name}", change)
            for item, tensors in found.tensors.items()
            for name, change in tensors.items()
        ]
        moved.sort(key=lambda pair: -pair[1].difference)
        self._said.say("L2 norms, what moved furthest first." if moved else "No floats changed.")
        with self._moved:
            table(
                ("Tensor", "Before", "After", "Difference", "Largest"),
                [
                    (name, *map(number, (t.before, t.after, t.difference, t.largest)))
                    for name, t in moved[:_ROWS]
                ],
                caption="How far the tensors moved",
            )

    async def _ask(self, *, norms: bool) -> Any:
        try:
            store = self._showing.site.store
            asked = partial(difference, store, self._a, self._b, norms=norms)
            return await self._showing.site.ask(asked)
        except HoldfastError as error:
            self._said.say(f"{error.message} ({error.hint})")
            return None


def _parts(change: Any) -> tuple[tuple[str, ...], ...]:
    return change.same, change.changed, change.added, change.removed


def _show_names(title: str, items: Mapping[str, Any]) -> None:
    names = [f"{item}.{name}" for item, change in items.items() for name in getattr(change, title)]
    if names:
        rest = f", and {count(len(names) - _NAMED, 'other')}" if len(names) > _NAMED else ""
        Tag("p", f"{title.capitalize()}: {', '.join(names[:_NAMED])}{rest}")
