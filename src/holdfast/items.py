"""Attached objects: how their state is captured, and how a stored one is put back into them."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from holdfast import frameworks
from holdfast.errors import ConfigError, TreeError
from holdfast.fitting import MUTABLE, live_leaf, match_array, match_tree
from holdfast.frameworks import JSON, Build, Leaf, Match, Sink, StoredArray
from holdfast.tree import Builder, Flat, Flattener, decode, replace_arrays, types_in, writable
from holdfast.tree.build import Buffer
from holdfast.tree.decode import noting


class Captured:
    """An attached object whose state is captured again and again.

    What is the same as the last time costs next to nothing; no array is kept alive for that.

    Args:
        obj: A model or optimizer of a present framework; a dict, list or array; or any object
            with ``state_dict()`` and ``load_state_dict()``.
        path: What messages call it: the item's name.
    """

    def __init__(self, obj: object, *, path: str) -> None:
        self._obj = obj
        self._path = path
        self._flattener = Flattener(path=path)
        self._source = _source(obj, path)

    def flat(self) -> Flat:
        """Returns its state of this moment as a skeleton and live arrays.

        `Flat.outline` is the very one of the last call when nothing in it has changed.

        Raises:
            TreeError: It is no such object, or something in it cannot be stored.
        """
        if self._source is None:
            self._source = _source(self._obj, self._path)
        state = _state(self._obj, self._path) if self._source is None else self._source()
        return self._flattener.flatten(state)


def capture(obj: object, *, path: str) -> Flat:
    """Returns the state of an attached object as a skeleton and live arrays, once.

    Args:
        obj: As for `Captured`.
        path: As for `Captured`.

    Raises:
        TreeError: As from `Captured.flat`.
    """
    return Captured(obj, path=path).flat()


def _source(obj: object, path: str) -> Callable[[], object] | None:
    for framework in frameworks.present():
        source = framework.source(obj, path=path)
        if source is not None:
            return source
    return None


def _state(obj: object, path: str) -> object:
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
        sinks: Array name to what takes its stored bytes piece by piece to a device.
        needed: Names of all arrays that must be read: into `buffers`, through `sinks`, or for
            `finish`.
        loaded: Names of what is restored; less than all with ``partial=True`` alone.
    """

    problems: tuple[str, ...]
    buffers: Mapping[str, memoryview]
    sinks: Mapping[str, Sink]
    needed: frozenset[str]
    loaded: tuple[str, ...]
    _path: str
    _match: Match = field(repr=False)
    _direct: Mapping[str, Leaf] = field(repr=False)
    _copied: tuple[tuple[StoredArray, Leaf], ...] = field(repr=False)
    _sizes: Mapping[str, int] = field(repr=False)

    @property
    def rest(self) -> dict[str, int]:
        """Array name to length in bytes, of what has neither a buffer nor a sink."""
        return {
            name: size
            for name, size in self._sizes.items()
            if name not in self.buffers and name not in self.sinks
        }

    def finish(self, staged: Mapping[str, Buffer]) -> None:
        """Restores everything that was not read in place.

        Args:
            staged: Array name to stored bytes, for all of `needed` that were not read into
                `buffers` or through `sinks`. The caller gives them away: new arrays are built on
                them.

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
        for name, size in self._sizes.items():
            if name not in staged:
                if name in self.buffers:
                    sources[name] = self.buffers[name]
                    continue
                if name in self.sinks:
                    continue
            given = staged.get(name)
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
    example = _example(obj, skeleton)
    stored = decode(skeleton, noting({}), types=types_in(example) if example is not None else None)
    match = _match(obj, stored, path, partial)
    direct, copied = _place(match.pairs)
    sizes = {stored.name: leaf.nbytes for stored, leaf in match.pairs}
    sizes.update((stored.name, stored.nbytes) for stored in match.values)
    return Restore(
        problems=match.problems,
        buffers={n: view for n, (_, view) in direct.items() if isinstance(view, memoryview)},
        sinks={n: sink for n, (_, sink) in direct.items() if not isinstance(sink, memoryview)},
        needed=frozenset(sizes),
        loaded=match.loaded,
        _path=path,
        _match=match,
        _direct={name: leaf for name, (leaf, _) in direct.items()},
        _copied=copied,
        _sizes=sizes,
    )


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
            tag = node.get("$")
            if tag in ("enum", "namedtuple"):
                return True
            if tag in ("tensor", "array"):
                continue
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
) -> tuple[dict[str, tuple[Leaf, memoryview | Sink]], tuple[tuple[StoredArray, Leaf], ...]]:
    """Returns what can be read in place and what must be copied there.

    A reader may fill and check its buffers at the same time, so no two of them may overlap; live
    arrays that share memory get one buffer, and the others are written afterwards.
    """
    direct: dict[str, tuple[Leaf, memoryview | Sink]] = {}
    copied: list[tuple[StoredArray, Leaf]] = []
    taken: dict[Hashable, list[tuple[int, int]]] = {}
    for stored, leaf in pairs:
        if stored.name in direct:
            if direct[stored.name][0].identity != leaf.identity:
                copied.append((stored, leaf))
            continue
        target: memoryview | Sink | None = leaf.memory()
        if target is None:
            target = leaf.sink()
        if target is None or not _take(taken, target):
            copied.append((stored, leaf))
        else:
            direct[stored.name] = (leaf, target)
    # What is copied from the bytes of another place needs them in the host's memory.
    for stored, _ in list(copied):
        first = direct.get(stored.name)
        if first is not None and not isinstance(first[1], memoryview):
            copied.append((stored, direct.pop(stored.name)[0]))
    return direct, tuple(copied)


def _take(taken: dict[Hashable, list[tuple[int, int]]], target: memoryview | Sink) -> bool:
    """Adds memory to the sorted, disjoint ranges of its device, unless it overlaps one of them."""
    device: Hashable = None
    if isinstance(target, memoryview):
        if target.nbytes == 0:
            return True
        start = np.frombuffer(target, np.uint8).__array_interface__["data"][0]
        end = start + target.nbytes
    else:
        device, start, end = target.span
    return _add(taken.setdefault(device, []), start, end)


def _add(taken: list[tuple[int, int]], start: int, end: int) -> bool:
    at = bisect.bisect(taken, (start, end))
    if (at and taken[at - 1][1] > start) or (at < len(taken) and taken[at][0] < end):
        return False
    taken.insert(at, (start, end))
    return True
