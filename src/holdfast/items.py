"""Attached objects: how their state is captured, and how a stored one is put back into them."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from holdfast import frameworks
from holdfast.errors import ConfigError, TreeError
from holdfast.fitting import MUTABLE, live_leaf, match_array, match_tree
from holdfast.frameworks import JSON, Build, Leaf, Match, StoredArray
from holdfast.tree import Builder, Flat, decode, flatten, replace_arrays, types_in, writable
from holdfast.tree.build import Buffer


def capture(obj: object, *, path: str) -> Flat:
    """Returns the state of an attached object as a skeleton and live arrays.

    Args:
        obj: A model or optimizer of a present framework; a dict, list or array; or any object
            with ``state_dict()`` and ``load_state_dict()``.
        path: What messages call it: the item's name.

    Raises:
        TreeError: It is none of these, or something in it cannot be stored.
    """
    return flatten(_state(obj, path), path=path)


def _state(obj: object, path: str) -> object:
    for framework in frameworks.present():
        state = framework.state(obj, path=path)
        if state is not None:
            return state
    if type(obj) in MUTABLE or _is_array(obj):
        return obj
    save = getattr(obj, "state_dict", None)
    if callable(save) and callable(getattr(obj, "load_state_dict", None)):
        return save()
    raise _unrestorable(obj, path)


def _is_array(obj: object) -> bool:
    try:
        return live_leaf(obj) is not None
    except TreeError:
        # It is one, and flatten says with its path what is wrong with it.
        return True


def _unrestorable(obj: object, path: str) -> TreeError:
    return TreeError(
        f"{path}: {type(obj)} cannot be restored in place",
        hint="put it in a dict, or give it state_dict() and load_state_dict()",
        problems=(f"{path}: {type(obj)} cannot be restored in place",),
    )


@dataclass(frozen=True, slots=True)
class Restore:
    """A restore that has been planned; nothing of the live object has changed yet.

    Attributes:
        problems: Whatever does not fit: one line each, starting with its path. While there is
            any, `finish` refuses.
        buffers: Array name to writable live memory of its stored size. What is read into it is
            restored by that.
        needed: Names of all arrays that must be read, into `buffers` or for `finish`.
        loaded: Names of what is restored; less than all with ``partial=True`` alone.
    """

    problems: tuple[str, ...]
    buffers: Mapping[str, memoryview]
    needed: frozenset[str]
    loaded: tuple[str, ...]
    _path: str
    _match: Match = field(repr=False)
    _direct: Mapping[str, Leaf] = field(repr=False)
    _copied: tuple[tuple[StoredArray, Leaf], ...] = field(repr=False)
    _sizes: Mapping[str, int] = field(repr=False)

    def finish(self, staged: Mapping[str, Buffer]) -> None:
        """Restores everything that was not read in place.

        Args:
            staged: Array name to stored bytes, for all of `needed` that were not read into
                `buffers`. The caller gives them away: new arrays are built on them.

        Raises:
            TreeError: There are `problems`; nothing was changed.
            ConfigError: An array is missing or of the wrong size; nothing was changed.
        """
        if self.problems:
            raise misfits(self._path, self.problems)
        sources = self._sources(staged)
        for name, leaf in self._direct.items():
            if name in staged:
                leaf.write(sources[name])
            leaf.touched()
        for stored, leaf in self._copied:
            leaf.write(sources[stored.name])
        # Nothing that is built may share memory with what is live already.
        apart = {
            name: view if name in staged else view.toreadonly() for name, view in sources.items()
        }
        self._match.apply(Builder(apart))

    def _sources(self, staged: Mapping[str, Buffer]) -> dict[str, memoryview]:
        sources: dict[str, memoryview] = {}
        for name in self.needed:
            given = staged.get(name, self.buffers.get(name))
            size = self._sizes[name]
            if given is None or memoryview(given).nbytes != size:
                raise ConfigError(
                    f"{self._path}: the array {name!r} was not read, or not to {size} bytes",
                    hint="read every name of needed, into buffers or for finish()",
                )
            # Where new arrays are built on it, the builder sees to its alignment.
            sources[name] = writable(given, alignment=1)
        return sources


def misfits(path: str, problems: tuple[str, ...]) -> TreeError:
    """Returns the one error for all that does not fit."""
    return TreeError(
        f"the checkpoint does not fit {path}:\n  " + "\n  ".join(problems),
        hint="nothing was changed; partial=True loads what fits",
        problems=problems,
    )


def plan_restore(obj: object, skeleton: JSON, *, path: str, partial: bool = False) -> Restore:
    """Returns how a stored state is going to be put into a live object, which stays as it is.

    Args:
        obj: As for `capture`.
        skeleton: The stored item's.
        path: What messages call it: the item's name.
        partial: Whether what does not fit is left out instead of being a problem. An object that
            loads by its own ``load_state_dict()`` gets all or nothing.

    Raises:
        FormatError: The skeleton is not one.
        TreeError: Nothing can be restored into such an object.
    """
    stored = decode(skeleton, _itself, types=types_in(_example(obj, skeleton)))
    match = _match(obj, stored, path, partial)
    direct, copied = _place(match.pairs)
    arrays = [stored for stored, _ in match.pairs] + list(match.values)
    sizes = {array.name: array.nbytes for array in arrays}
    return Restore(
        problems=match.problems,
        buffers={name: view for name, (_, view) in direct.items()},
        needed=frozenset(sizes),
        loaded=match.loaded,
        _path=path,
        _match=match,
        _direct={name: leaf for name, (leaf, _) in direct.items()},
        _copied=copied,
        _sizes=sizes,
    )


def _itself(stored: StoredArray) -> object:
    return stored


def _example(obj: object, skeleton: JSON) -> object:
    """Returns a tree with the live classes of what is stored.

    Only named tuples and enum members have any, so most objects are not asked for their state.
    """
    if type(obj) in MUTABLE:
        return obj
    if not _has_classes(skeleton):
        return None
    save = getattr(obj, "state_dict", None)
    return save() if callable(save) else None


def _has_classes(skeleton: JSON) -> bool:
    todo: list[JSON] = [skeleton]
    while todo:
        node = todo.pop()
        if isinstance(node, dict):
            if node.get("$") in ("enum", "namedtuple"):
                return True
            todo.extend(node.values())
        elif isinstance(node, list):
            todo.extend(node)
    return False


def _match(obj: object, stored: object, path: str, partial: bool) -> Match:
    for framework in frameworks.present():
        match = framework.match(obj, stored, path=path, partial=partial)
        if match is not None:
            return match
    if type(obj) in MUTABLE:
        return match_tree(obj, stored, path=path, partial=partial)
    leaf = live_leaf(obj)
    if leaf is not None:
        return match_array(leaf, stored, path=path, partial=partial)
    load = getattr(obj, "load_state_dict", None)
    if not callable(load):
        raise _unrestorable(obj, path)
    arrays = arrays_in(stored)

    def apply(build: Build) -> None:
        load(replace_arrays(stored, build))

    return Match((), (), arrays, apply, tuple(array.name for array in arrays))


def arrays_in(stored: object) -> tuple[StoredArray, ...]:
    """Returns the places of arrays in a decoded tree, in its order."""
    found: list[StoredArray] = []
    replace_arrays(stored, found.append)
    return tuple(found)


def _place(
    pairs: Iterable[tuple[StoredArray, Leaf]],
) -> tuple[dict[str, tuple[Leaf, memoryview]], tuple[tuple[StoredArray, Leaf], ...]]:
    """Returns what can be read in place and what must be copied there.

    A reader may fill and check its buffers at the same time, so no two of them may overlap; live
    arrays that share memory get one buffer, and the others are written afterwards.
    """
    direct: dict[str, tuple[Leaf, memoryview]] = {}
    copied: list[tuple[StoredArray, Leaf]] = []
    taken: list[tuple[int, int]] = []
    for stored, leaf in pairs:
        if stored.name in direct and direct[stored.name][0].identity == leaf.identity:
            continue
        view = None if stored.name in direct else leaf.memory()
        if view is None or not _take(taken, view):
            copied.append((stored, leaf))
        else:
            direct[stored.name] = (leaf, view)
    return direct, tuple(copied)


def _take(taken: list[tuple[int, int]], view: memoryview) -> bool:
    """Adds a view to the sorted, disjoint ranges of addresses, unless it overlaps one of them."""
    if view.nbytes == 0:
        return True
    start = np.frombuffer(view, np.uint8).ctypes.data
    end = start + view.nbytes
    at = bisect.bisect(taken, (start, end))
    if (at and taken[at - 1][1] > start) or (at < len(taken) and taken[at][0] < end):
        return False
    taken.insert(at, (start, end))
    return True
