"""numpy arrays as they were when they were last looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from holdfast.frameworks import Leaf
from holdfast.tree.arrays import Array, NumpyForm, NumpyLeaf


class NumpySighting:
    """See `frameworks.Sighting`.

    There is no weak reference in it: an array that has one cannot be resized in place. What is in
    the same state is the same to a leaf, whether it is the same object or not; only an empty
    array is nothing but itself, and counts as changed each time.

    Args:
        leaves: Leaves of arrays as they are now, none of which stands for bytes.
    """

    def __init__(self, leaves: Sequence[Leaf]) -> None:
        known = [_own(leaf) for leaf in leaves]
        self._forms: list[NumpyForm] = [leaf.form for leaf in known]
        self._states = [_state(leaf.array) for leaf in known]

    def changed(self, arrays: Sequence[Any]) -> list[int]:
        """See `frameworks.Sighting.changed`."""
        return [
            index
            for index, (state, array) in enumerate(zip(self._states, arrays, strict=True))
            if _state(array) != state or array.size == 0
        ]

    def renew(self, index: int, leaf: Leaf) -> None:
        """See `frameworks.Sighting.renew`."""
        known = _own(leaf)
        self._forms[index] = known.form
        self._states[index] = _state(known.array)

    def leaves(self, arrays: Sequence[Any]) -> Sequence[Leaf]:
        """See `frameworks.Sighting.leaves`."""
        return list(map(NumpyLeaf, arrays, self._forms))


def _state(array: Array) -> tuple[object, ...]:
    return array.__array_interface__["data"][0], array.shape, array.strides, array.dtype


def _own(leaf: Leaf) -> NumpyLeaf:
    if not isinstance(leaf, NumpyLeaf):
        raise TypeError(f"{type(leaf).__name__} is not a leaf of numpy")
    return leaf
