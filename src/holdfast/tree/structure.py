"""The structure of a state, remembered, and the state of a later moment held against it.

A state is compared level by level: all types, lengths and keys of one depth in a few calls that
run over lists, none of them in Python's own loop. What is left to look at are arrays and numbers.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from itertools import chain
from operator import is_, itemgetter, methodcaller
from typing import Any, TypeAlias, cast

import numpy as np

from holdfast.errors import TreeError
from holdfast.frameworks import JSON
from holdfast.tree.encode import NO_SCALAR, scalar_node

Values: TypeAlias = Sequence[Any]
Picker: TypeAlias = Callable[[Values], Values]

_values = methodcaller("values")
#: Never the very object that a state holds.
_UNKNOWN = object()


class Structure:
    """Types, lengths and keys of all containers in a state, and what else is no array.

    Args:
        state: What was flattened.
        skeleton: Its skeleton.
    """

    def __init__(self, state: object, skeleton: JSON) -> None:
        self._levels: list[_Level] = []
        values: Values = [state]
        nodes = [skeleton]
        while values:
            level = _Level(values, nodes)
            self._levels.append(level)
            values, nodes = level.below(values), level.nodes_below()
        self._arrays = picker(self._order())

    def compare(self, state: object) -> list[Values] | None:
        """Returns the values of each level, or None when the structure is another by now."""
        found: list[Values] = []
        values: Values = [state]
        for level in self._levels:
            if list(map(type, values)) != level.types:
                return None
            found.append(values)
            if not level.has_same_keys(values):
                return None
            values = level.below(values)
        return found

    def arrays(self, found: Sequence[Values]) -> Values:
        """Returns what stands in the places of arrays, in the order of a walk."""
        levels = zip(self._levels, found, strict=True)
        return self._arrays(list(chain.from_iterable(level.arrays(part) for level, part in levels)))

    def skeleton(self, found: Sequence[Values]) -> JSON:
        """Returns the skeleton; parts that hold the same as last time are the same objects.

        Raises:
            TreeError: A value cannot be stored, or not without an array.
        """
        news = [level.news(values) for level, values in zip(self._levels, found, strict=True)]
        changed: set[int] = set()
        for depth in reversed(range(len(self._levels))):
            level = self._levels[depth]
            if changed:
                changed = level.rebuild(changed, self._levels[depth + 1].nodes)
            for index, node in news[depth].items():
                level.nodes[index] = node
                changed.add(index)
        return self._levels[0].nodes[0]

    def _order(self) -> list[int]:
        """Returns the indexes of all arrays, level after level, in the order of a walk."""
        numbers: dict[tuple[int, int], int] = {}
        for depth, level in enumerate(self._levels):
            for index in level.array_places:
                numbers[depth, index] = len(numbers)
        order: list[int] = []
        todo = [(0, 0)]
        while todo:
            depth, index = todo.pop()
            span = self._levels[depth].spans.get(index)
            if span is not None:
                todo.extend((depth + 1, part) for part in reversed(range(*span)))
            elif (depth, index) in numbers:
                order.append(numbers[depth, index])
        return order


class _Level:
    """All values that lie at one depth.

    Attributes:
        types: Of all values.
        nodes: Of all values.
        spans: Index of a container to where its parts begin and end in the level below.
        array_places: Indexes of the arrays.
    """

    def __init__(self, values: Values, nodes: list[JSON]) -> None:
        self.types = list(map(type, values))
        self.nodes = nodes
        dicts, ordered, sequences, scalars, self.array_places = _sort(values, nodes)
        self._dicts, self._ordered, self._sequences = map(picker, (dicts, ordered, sequences))
        self._keys = list(chain.from_iterable(self._dicts(values)))
        self._lengths = self._measure(values)
        self.spans: dict[int, tuple[int, int]] = {}
        self._attributes: dict[int, int] = {}
        end = 0
        for index, length in zip(dicts, self._lengths[0], strict=True):
            self.spans[index] = (end, end := end + length)
        for index in ordered:
            self._attributes[index] = end
            end += 1
        for index, length in zip(sequences, self._lengths[1], strict=True):
            self.spans[index] = (end, end := end + length)
        self._owners = sorted(
            [(begin, index) for index, (begin, end) in self.spans.items() if end > begin]
            + [(place, index) for index, place in self._attributes.items()]
        )
        self.arrays = picker(self.array_places)
        self._scalar_places = scalars
        self._scalars = picker(scalars)
        self._last = [_remembered(value) for value in self._scalars(values)]

    def _measure(self, values: Values) -> tuple[list[int], list[int]]:
        return list(map(len, self._dicts(values))), list(map(len, self._sequences(values)))

    def has_same_keys(self, values: Values) -> bool:
        """Returns whether values of the same types are as long and have the same keys."""
        if self._measure(values) != self._lengths:
            return False
        keys = list(chain.from_iterable(self._dicts(values)))
        return all(map(is_, keys, self._keys)) or all(map(_same_key, keys, self._keys))

    def below(self, values: Values) -> Values:
        """Returns the parts of all containers: of dicts, attributes of dicts, of sequences."""
        parts = chain.from_iterable(map(_values, self._dicts(values)))
        attributes = map(vars, self._ordered(values))
        return [*parts, *attributes, *chain.from_iterable(self._sequences(values))]

    def nodes_below(self) -> list[JSON]:
        """Returns the nodes of these parts."""
        nodes: list[JSON] = [None] * (len(self._attributes) + sum(map(sum, self._lengths)))
        for index, (begin, end) in self.spans.items():
            nodes[begin:end] = _parts(self.nodes[index])
        for index, place in self._attributes.items():
            node = cast("dict[str, JSON]", self.nodes[index])
            # Without any there is no node, and nothing below that could ask for one.
            nodes[place] = node.get("attributes")
        return nodes

    def news(self, values: Values) -> dict[int, JSON]:
        """Returns index to node of the values that are others than last time.

        Raises:
            TreeError: See `Structure.skeleton`.
        """
        now = self._scalars(values)
        if all(map(is_, now, self._last)):
            return {}
        news: dict[int, JSON] = {}
        for at, (value, before) in enumerate(zip(now, self._last, strict=True)):
            if value is before:
                continue
            index = self._scalar_places[at]
            node = scalar_node(value)
            if node is NO_SCALAR:
                raise TreeError("has become too long for the skeleton", hint="flatten it anew")
            self._last[at] = _remembered(value)
            if not _same_node(node, self.nodes[index]):
                news[index] = node
        return news

    def rebuild(self, changed: Iterable[int], below: list[JSON]) -> set[int]:
        """Makes new nodes for the containers of changed parts, and returns their indexes."""
        at = (bisect_right(self._owners, part, key=itemgetter(0)) - 1 for part in changed)
        owners = {self._owners[index][1] for index in at}
        for index in owners:
            begin, end = self.spans[index]
            place = self._attributes.get(index)
            attributes = None if place is None else below[place]
            self.nodes[index] = _join(self.nodes[index], below[begin:end], attributes)
        return owners


def _sort(values: Values, nodes: list[JSON]) -> tuple[list[int], ...]:
    """Returns the indexes of dicts, of ordered ones among them, sequences, scalars, arrays."""
    dicts: list[int] = []
    ordered: list[int] = []
    sequences: list[int] = []
    scalars: list[int] = []
    arrays: list[int] = []
    for index, (value, node) in enumerate(zip(values, nodes, strict=True)):
        if isinstance(value, (dict, list, tuple)) and not isinstance(value, Enum):
            (dicts if isinstance(value, dict) else sequences).append(index)
            if isinstance(value, (OrderedDict, Counter)):
                ordered.append(index)
        elif isinstance(node, dict) and "array" in node:
            arrays.append(index)
        else:
            scalars.append(index)
    return dicts, ordered, sequences, scalars, arrays


def picker(indexes: Sequence[int]) -> Picker:
    """Returns a function that picks the values at some indexes."""
    if len(indexes) > 1:
        return itemgetter(*indexes)
    # With one index itemgetter returns the value alone, and with none it does not exist.
    return lambda values: [values[index] for index in indexes]


def _remembered(value: object) -> object:
    # A record of numpy can change in place; all other values that are no arrays stay themselves.
    return _UNKNOWN if isinstance(value, np.generic) else value


def _same_key(one: object, other: object) -> bool:
    # 1 == True == 1.0 and 0.0 == -0.0, and each of them is spelt differently.
    return one is other or (type(one) is type(other) and type(one) in (str, int) and one == other)


def _same_node(one: JSON, other: JSON) -> bool:
    # Both stand for values of one class, so that 1 and True do not meet; 0.0 and -0.0 may.
    return one == other and (type(one) is not float or repr(one) == repr(other))


def _parts(node: JSON) -> Iterable[JSON]:
    """Returns the nodes of a container's parts, in their order."""
    if node is None:
        # An ordered dict without attributes.
        return ()
    if isinstance(node, list):
        return node
    whole: Mapping[str, Any] = cast("dict[str, JSON]", node)
    if "$" not in whole:
        return whole.values()
    if whole["$"] in ("tuple", "namedtuple"):
        return cast("list[JSON]", whole["items"])
    return [part for _, part in whole["items"]]


def _join(node: JSON, parts: list[JSON], attributes: JSON) -> JSON:
    """Returns a container's node with other parts in it."""
    if isinstance(node, list):
        return parts
    whole: dict[str, Any] = cast("dict[str, JSON]", node)
    if "$" not in whole:
        return dict(zip(whole, parts, strict=True))
    if whole["$"] in ("tuple", "namedtuple"):
        return {**whole, "items": parts}
    items = [[key, part] for (key, _), part in zip(whole["items"], parts, strict=True)]
    joined = {**whole, "items": items}
    if "attributes" in whole:
        joined["attributes"] = attributes
    return joined
