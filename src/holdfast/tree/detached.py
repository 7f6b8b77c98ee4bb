"""Arrays that are stored without their history of gradients."""

from __future__ import annotations

from collections.abc import Iterable


class Detached(dict[str, object]):
    """A dict whose arrays are stored as if they required no gradient.

    So are the parameters and buffers of a module: whether they are trained is a fact of the
    module, and not of its state.

    Args:
        entries: Name to array or other value.
        whole: Names of those that are stored as they are for all that.
    """

    __slots__ = ("whole",)

    def __init__(
        self, entries: Iterable[tuple[str, object]], *, whole: frozenset[str] = frozenset()
    ) -> None:
        super().__init__(entries)
        self.whole = whole
