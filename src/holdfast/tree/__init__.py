"""Nested state <-> a JSON skeleton and named arrays; ``docs/format-state.md`` specifies it."""

from __future__ import annotations

from holdfast.frameworks import JSON, Leaf, StoredArray
from holdfast.tree.build import Builder, unflatten, writable
from holdfast.tree.decode import array_nodes, decode, replace_arrays
from holdfast.tree.encode import Flat, flatten, unstorable
from holdfast.tree.paths import render
from holdfast.tree.records import EnumName, Types, types_in

__all__ = [
    "JSON",
    "Builder",
    "EnumName",
    "Flat",
    "Leaf",
    "StoredArray",
    "Types",
    "array_nodes",
    "decode",
    "flatten",
    "render",
    "replace_arrays",
    "types_in",
    "unflatten",
    "unstorable",
    "writable",
]
