"""Nested state <-> a JSON skeleton and named arrays; ``docs/format-state.md`` specifies it."""

from __future__ import annotations

from holdfast.frameworks import JSON, Leaf, StoredArray
from holdfast.tree.build import Builder, unflatten, writable
from holdfast.tree.copying import Copy, Transfers, prepare_copy
from holdfast.tree.decode import array_nodes, decode, replace_arrays
from holdfast.tree.detached import Detached
from holdfast.tree.encode import flatten, unstorable
from holdfast.tree.flat import ArrayOutline, Flat, Outline
from holdfast.tree.flattener import Flattener
from holdfast.tree.paths import render
from holdfast.tree.records import EnumName, Types, types_in

__all__ = [
    "JSON",
    "ArrayOutline",
    "Builder",
    "Copy",
    "Detached",
    "EnumName",
    "Flat",
    "Flattener",
    "Leaf",
    "Outline",
    "StoredArray",
    "Transfers",
    "Types",
    "array_nodes",
    "decode",
    "flatten",
    "prepare_copy",
    "render",
    "replace_arrays",
    "types_in",
    "unflatten",
    "unstorable",
    "writable",
]
