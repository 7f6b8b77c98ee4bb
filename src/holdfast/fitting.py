"""How a stored tree fits live arrays, dicts and lists, and how it is put into them."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Any

import numpy as np

from holdfast import frameworks
from holdfast.errors import TreeError
from holdfast.frameworks import Build, Leaf, Match, StoredArray
from holdfast.tree import render, replace_arrays
from holdfast.tree.arrays import NumpyLeaf
from holdfast.tree.decode import retuple

#: Containers that can be changed in place.
MUTABLE = (dict, list, OrderedDict, Counter)

_MISSING = object()


def live_leaf(value: object) -> Leaf | None:
    """Returns a live array as a leaf, or None for anything else.

    Raises:
        TreeError: It is an array that cannot be stored, so nothing can be restored into it.
    """
    if type(value) is np.ndarray:
        return NumpyLeaf(value)
    for framework in frameworks.present():
        leaf = framework.leaf(value)
        if leaf is not None:
            return leaf
    return None


def misfit(stored: StoredArray, leaf: Leaf) -> tuple[str, ...]:
    """Returns why a stored array cannot go into a live one as it is: kind, shape, dtype, all."""
    node = leaf.node(stored.name)
    reasons = []
    if node["$"] != stored.node["$"]:
        reasons.append(f"{_kind(stored.node['$'])} in the checkpoint, {_kind(node['$'])} here")
    if node["shape"] != stored.node["shape"]:
        reasons.append(f"shape {stored.node['shape']} in the checkpoint, {node['shape']} here")
    if node["dtype"] != stored.node.get("dtype"):
        then = stored.node.get("dtype", "bytes")
        reasons.append(f"dtype {then} in the checkpoint, {node['dtype']} here")
    if not reasons and leaf.problem:
        reasons.append(leaf.problem)
    return tuple(reasons)


def _kind(tag: object) -> str:
    return {"array": "a numpy array", "tensor": "a tensor"}.get(str(tag), str(tag))


def match_array(leaf: Leaf, stored: object, *, path: str, partial: bool) -> Match:
    """Returns how a stored tree fits one live array that is a whole item."""
    if isinstance(stored, StoredArray):
        reasons = misfit(stored, leaf)
        if not reasons:
            return Match((), ((stored, leaf),), (), no_values, (stored.name,))
    else:
        reasons = (f"{type(stored).__name__} in the checkpoint, an array here",)
    problems = () if partial else tuple(f"{path}: {reason}" for reason in reasons)
    return Match(problems, (), (), no_values, ())


def match_tree(live: object, stored: object, *, path: str, partial: bool) -> Match:
    """Returns how a stored tree fits a live dict or list.

    Afterwards the live tree equals the stored one: keys that were not there at the save are gone,
    so that a rollback forgets what came later. Dicts, lists and arrays that fit keep their
    identity; an array of another shape or dtype is replaced, unless it is one that an optimizer
    may hold (a parameter, a tensor that requires a gradient): that is a problem. With `partial`
    nothing is taken away, and such an array stays as it is.
    """
    if type(live) is not type(stored):
        then = "an array" if isinstance(stored, StoredArray) else type(stored).__name__
        problem = f"{path}: {then} in the checkpoint, {type(live).__name__} here"
        return Match(() if partial else (problem,), (), (), no_values, ())
    matcher = _TreeMatcher(path, partial)
    matcher.match(live, stored)

    def apply(build: Build) -> None:
        matcher.merge(live, stored, build)

    return Match(
        tuple(matcher.problems), tuple(matcher.pairs), tuple(matcher.values), apply,
        tuple(matcher.loaded),
    )  # fmt: skip


def no_values(_: Build) -> None:
    """Applies nothing: whatever there is, is copied in place."""


class _TreeMatcher:
    """One walk over a live tree and a stored one, and later the change in place."""

    def __init__(self, base: str, partial: bool) -> None:
        self.problems: list[str] = []
        self.pairs: list[tuple[StoredArray, Leaf]] = []
        self.values: list[StoredArray] = []
        self.loaded: list[str] = []
        self._base = base
        self._partial = partial
        self._keys: list[object] = []
        self._kept: dict[StoredArray, object] = {}

    def match(self, live: object, stored: object) -> None:
        if isinstance(stored, StoredArray):
            self._match_array(live, stored)
            return
        same = type(live) is type(stored)
        if isinstance(stored, dict):
            parts = live if same and isinstance(live, dict) else {}
            for key, part in stored.items():
                self._below(key, parts.get(key, _MISSING), part)
            self._lost({key: part for key, part in parts.items() if key not in stored})
        elif isinstance(stored, (list, tuple)):
            items = list(live) if same and isinstance(live, (list, tuple)) else []
            fields = getattr(stored, "_fields", range(len(stored)))
            for index, (key, part) in enumerate(zip(fields, stored, strict=True)):
                self._below(key, items[index] if index < len(items) else _MISSING, part)
            self._lost(dict(list(enumerate(items))[len(stored) :]))
        if not same:
            self._lost({None: live} if live is not _MISSING else {})

    def _below(self, key: object, live: object, stored: object) -> None:
        self._keys.append(key)
        self.match(live, stored)
        self._keys.pop()

    def _match_array(self, live: object, stored: StoredArray) -> None:
        try:
            leaf = live_leaf(live)
        except TreeError as error:
            self._problem(error.message)
            return
        reasons = misfit(stored, leaf) if leaf is not None else ()
        if leaf is None or (reasons and not leaf.fixed):
            self.values.append(stored)
            self.loaded.append(stored.name)
            return
        self._kept[stored] = live
        if not reasons:
            self.pairs.append((stored, leaf))
            self.loaded.append(stored.name)
        for reason in reasons:
            self._problem(reason)

    def _lost(self, parts: dict[object, object]) -> None:
        """Notes each array that must not go and has no counterpart in the checkpoint."""
        seen: set[int] = set()
        todo: list[tuple[list[object], object]] = [([key], part) for key, part in parts.items()]
        while todo:
            keys, part = todo.pop()
            if isinstance(part, (dict, list, tuple)):
                if id(part) not in seen:
                    seen.add(id(part))
                    inner = part.items() if isinstance(part, dict) else enumerate(part)
                    todo.extend(([*keys, key], value) for key, value in inner)
                continue
            try:
                leaf = live_leaf(part)
            except TreeError:
                # Whatever cannot be stored was not there at the save; it leaves with its key.
                continue
            if leaf is not None and leaf.fixed:
                where = [*self._keys, *(key for key in keys if key is not None)]
                self._problem("is not in the checkpoint", keys=where)

    def _problem(self, reason: str, *, keys: list[object] | None = None) -> None:
        if not self._partial:
            where = render(self._base, self._keys if keys is None else keys)
            self.problems.append(f"{where}: {reason}")

    def merge(self, live: object, stored: object, build: Build) -> object:
        """Returns what stands in the live tree where `stored` stands in the other."""
        if isinstance(stored, StoredArray):
            return self._kept[stored] if stored in self._kept else build(stored)
        if isinstance(stored, dict) and type(live) is type(stored) and isinstance(live, dict):
            return self._merge_dict(live, stored, build)
        if isinstance(stored, (list, tuple)):
            return self._merge_sequence(live, stored, build)
        return replace_arrays(stored, build)

    def _merge_dict(
        self, live: dict[Any, object], stored: dict[Any, object], build: Build
    ) -> object:
        parts = {
            key: self.merge(live.get(key, _MISSING), part, build) for key, part in stored.items()
        }
        if not self._partial:
            live.clear()
        # One by one: a Counter's update() adds the counts up.
        for key, part in parts.items():
            live[key] = part  # noqa: PERF403
        if type(live) is not dict:
            vars(live).update(vars(stored))
        return live

    def _merge_sequence(
        self, live: object, stored: list[object] | tuple[object, ...], build: Build
    ) -> object:
        same = type(live) is type(stored) and isinstance(live, (list, tuple))
        items: list[object] = list(live) if same else []  # type: ignore[call-overload]
        parts = [
            self.merge(items[index] if index < len(items) else _MISSING, part, build)
            for index, part in enumerate(stored)
        ]
        if isinstance(stored, tuple):
            return retuple(stored, parts)
        if not same or not isinstance(live, list):
            return parts
        live[: len(parts) if self._partial else None] = parts
        return live
