"""Flattening one state again and again, at the price of what has changed in it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from holdfast import frameworks
from holdfast.errors import ConfigError, TreeError
from holdfast.frameworks import JSON, Leaf, Node, Sighting
from holdfast.tree.encode import Place, Walk, leaf_of
from holdfast.tree.flat import Flat, Outline, outline_all
from holdfast.tree.sightings import NumpySighting
from holdfast.tree.structure import Picker, Structure, Values, picker


class Flattener:
    """Flattens the states of one object, and remembers what they have in common.

    What it returns is what `flatten` would return. No array is kept alive by it.

    Args:
        path: What messages call the state.
    """

    def __init__(self, *, path: str = "") -> None:
        self._path = path
        self._memory: _Memory | None = None
        self._outline: Outline | None = None
        self._misses = 0

    def flatten(self, state: object) -> Flat:
        """Returns a state as a skeleton and named live arrays; see `flatten`.

        `Flat.outline` is the one of the last call when nothing in it has changed.

        Raises:
            TreeError: Something in it cannot be stored; `TreeError.problems` lists all of it.
        """
        memory, self._memory = self._memory, None
        flat = memory.flatten(state) if memory is not None else None
        if flat is not None:
            self._memory = memory
            self._misses = 1
            return flat
        walk = Walk(self._path)
        skeleton = walk.whole(state)
        outline = outline_all(walk.leaves, walk.aliases)
        if self._outline is not None and outline.resembles(self._outline):
            outline = self._outline
        self._outline = outline
        # A state that is another each time is not worth remembering; one that was asked for
        # once may never be asked for again.
        if self._misses and self._misses.bit_count() == 1:
            self._memory = _Memory(state, skeleton, walk.places, outline)
        self._misses += 1
        return Flat(skeleton, walk.leaves, outline.aliases, outline)


@dataclass(slots=True, eq=False)
class _Spot:
    """A place that holds an array, without the array.

    Attributes:
        name: The name that it is stored under.
        node: Its node in the skeleton.
        identity: Of the array.
        detached: As in `Place`.
    """

    name: str
    node: Node
    identity: Hashable
    detached: bool


@dataclass(slots=True, eq=False)
class _Group:
    """Places whose arrays belong to one framework.

    Attributes:
        places: Their indexes among all places.
        pick: Picks their arrays.
        sighting: How these were.
    """

    places: Sequence[int]
    pick: Picker
    sighting: Sighting


class _Memory:
    """A flattened state without its arrays.

    Args:
        state: What was flattened.
        skeleton: Its skeleton.
        places: Where it holds arrays, in the order of a walk.
        outline: Its outline.
    """

    def __init__(
        self, state: object, skeleton: JSON, places: Sequence[Place], outline: Outline
    ) -> None:
        self._structure = Structure(state, skeleton)
        self._outline = outline
        self._spots = [
            _Spot(place.name, place.leaf.node(place.name), place.identity, place.detached)
            for place in places
        ]
        self._sharing = _sharing(self._spots)
        first = [index for index, other in enumerate(self._sharing) if index == other]
        self._firsts = picker(first)
        self._rows = dict(zip(first, outline.arrays, strict=True))
        self._names = [array.name for array in outline.arrays]
        groups: dict[str, list[int]] = {}
        # Nothing can tell whether bytes are the same object without keeping them alive.
        self._long_bytes = [i for i, spot in enumerate(self._spots) if spot.node["$"] == "bytes"]
        for index in sorted(set(range(len(places))) - set(self._long_bytes)):
            groups.setdefault(places[index].leaf.framework, []).append(index)
        self._groups = [
            _Group(some, picker(some), _sight(framework, [places[index].leaf for index in some]))
            for framework, some in groups.items()
        ]

    def flatten(self, state: object) -> Flat | None:
        """Returns the flat state, or None when more has changed than values and arrays."""
        found = self._structure.compare(state)
        if found is None:
            return None
        try:
            leaves = self._leaves(self._structure.arrays(found))
            skeleton = self._structure.skeleton(found)
        except TreeError:
            # A walk tells all of it, with the paths, or finds another form for it.
            return None
        if leaves is None:
            return None
        named = dict(zip(self._names, self._firsts(leaves), strict=True))
        return Flat(skeleton, named, self._outline.aliases, self._outline)

    def _leaves(self, arrays: Values) -> Sequence[Leaf] | None:
        """Returns the leaves of all places; None when an outline or what is shared has changed."""
        known = frameworks.present()
        moved = False
        leaves: Sequence[Leaf] = []
        scattered: dict[int, Leaf] = {}
        for group in self._groups:
            live = group.pick(arrays)
            for at in group.sighting.changed(live):
                index = group.places[at]
                leaf = leaf_of(live[at], known, detached=self._spots[index].detached)
                if leaf is None or not self._fits(index, leaf):
                    return None
                group.sighting.renew(at, leaf)
                moved |= self._moves(index, leaf)
            leaves = group.sighting.leaves(live)
            if len(leaves) < len(arrays):
                scattered.update(zip(group.places, leaves, strict=True))
        for index in self._long_bytes:
            leaf = leaf_of(arrays[index], known)
            if leaf is None or not self._fits(index, leaf):
                return None
            moved |= self._moves(index, leaf)
            scattered[index] = leaf
        if moved and _sharing(self._spots) != self._sharing:
            return None
        return [scattered[index] for index in range(len(arrays))] if scattered else leaves

    def _fits(self, index: int, leaf: Leaf) -> bool:
        """Returns whether another array at a place has the same node and the same outline."""
        spot, row = self._spots[index], self._rows.get(index)
        # The node tells all of the outline but this.
        stable = row is None or row.stable == leaf.stable
        return stable and leaf.node(spot.name) == spot.node

    def _moves(self, index: int, leaf: Leaf) -> bool:
        """Takes note of where the array of a place is, and returns whether that is elsewhere."""
        spot, identity = self._spots[index], leaf.identity
        same = spot.identity == identity
        spot.identity = identity
        return not same


def _sharing(spots: Sequence[_Spot]) -> list[int]:
    """Returns for each place the first one that holds the same memory."""
    first: dict[Hashable, int] = {}
    return [first.setdefault(spot.identity, index) for index, spot in enumerate(spots)]


def _sight(framework: str, leaves: Sequence[Leaf]) -> Sighting:
    if framework == "numpy":
        return NumpySighting(leaves)
    adapter = frameworks.load(framework)
    if adapter is None:
        raise ConfigError(f"{framework} is not installed", hint=f"install {framework}")
    return adapter.sight(leaves)
