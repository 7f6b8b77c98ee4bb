"""A JSON skeleton and named arrays as the nested state again."""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import numpy as np

from holdfast.errors import FormatError
from holdfast.frameworks import JSON, Build, StoredArray
from holdfast.tree.dtypes import (
    TENSOR,
    read_shape,
    stored_of_numpy,
    stored_of_tensor,
    undescribe,
)
from holdfast.tree.encode import MAX_DEPTH, MAX_EXACT, MAX_INLINE_BYTES
from holdfast.tree.paths import FORBIDDEN, encodable, shown
from holdfast.tree.records import Types, is_attribute

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,99}|0x[0-9a-f]{1,1000000})", re.ASCII)
_FLOATS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def decode(skeleton: JSON, build: Build, *, types: Types | None = None) -> object:
    """Returns the tree that a skeleton describes.

    Args:
        skeleton: As `flatten` made it, or anything else that JSON can hold.
        build: Called with each place of an array, in the order of the skeleton.
        types: Classes to use for enum members and named tuples.

    Raises:
        FormatError: The skeleton is not one; nothing else, whatever it holds.
    """
    return _Decoder(build, types or Types()).value(skeleton, 0)


def array_nodes(skeleton: JSON) -> dict[str, StoredArray]:
    """Returns the arrays that a skeleton needs, by name.

    Raises:
        FormatError: The skeleton is not one, or names one array in two ways.
    """
    found: dict[str, StoredArray] = {}
    decode(skeleton, noting(found))
    return found


def noting(found: dict[str, StoredArray]) -> Callable[[StoredArray], StoredArray]:
    """Returns a `Build` that leaves each place as it is, and notes the first of each name.

    It raises `FormatError` for an array that is there with two dtypes or shapes.
    """

    def note(stored: StoredArray) -> StoredArray:
        first = found.setdefault(stored.name, stored)
        if first is not stored and (first.dtype_stored, first.shape_stored) != (
            stored.dtype_stored,
            stored.shape_stored,
        ):
            raise malformed(f"the array {stored.name!r} has two dtypes or shapes")
        return stored

    return note


def replace_arrays(tree: object, build: Build) -> object:
    """Returns a decoded tree with something else in the place of each `StoredArray`.

    Containers are new; keys and other values are the same objects.
    """
    if isinstance(tree, StoredArray):
        return build(tree)
    if isinstance(tree, dict):
        fresh = type(tree)()
        for key, part in tree.items():
            fresh[key] = replace_arrays(part, build)
        vars_of(fresh).update(vars_of(tree))
        return fresh
    if isinstance(tree, list):
        return [replace_arrays(part, build) for part in tree]
    if isinstance(tree, tuple):
        return retuple(tree, [replace_arrays(part, build) for part in tree])
    return tree


def retuple(like: tuple[object, ...], parts: list[object]) -> tuple[object, ...]:
    """Returns a tuple, or a named tuple of the same class, of other parts."""
    kind: Any = type(like)
    return tuple(parts) if kind is tuple else kind(*parts)


def vars_of(value: object) -> dict[str, object]:
    """Returns the attributes of a dict's subclass; a plain dict has none."""
    return getattr(value, "__dict__", {})


def malformed(what: str) -> FormatError:
    """Returns the error for a skeleton that is not one."""
    return FormatError(
        f"the skeleton cannot be read: {what[:300]}",
        hint="it is damaged, or was written by a newer version",
    )


class _Decoder:
    """One walk over a skeleton."""

    def __init__(self, build: Build, types: Types) -> None:
        self._build = build
        self._types = types
        self._kinds: Mapping[str, Callable[[dict[str, JSON], int], object]] = {
            "int": _integer,
            "float": _float,
            "scalar": _scalar,
            "datetime": _datetime,
            "bytes": self._bytes,
            "array": self._array,
            "tensor": self._tensor,
            "tuple": self._tuple,
            "namedtuple": self._namedtuple,
            "enum": self._enum,
            "dict": self._mapping,
            "ordereddict": self._mapping,
            "counter": self._mapping,
        }

    def value(self, node: JSON, depth: int) -> object:
        if depth > MAX_DEPTH:
            raise malformed(f"it is deeper than {MAX_DEPTH} levels")
        if isinstance(node, dict):
            if "$" in node:
                return self._kind(node)(node, depth)
            return {_text(key): self.value(part, depth + 1) for key, part in node.items()}
        if isinstance(node, list):
            return [self.value(part, depth + 1) for part in node]
        return _plain(node)

    def _kind(self, node: dict[str, JSON]) -> Callable[[dict[str, JSON], int], object]:
        tag = node["$"]
        kind = self._kinds.get(tag) if isinstance(tag, str) else None
        if kind is None:
            raise malformed(f"there is no node of the kind {str(tag)[:60]!r}")
        return kind

    def _items(self, node: dict[str, JSON], depth: int) -> list[object]:
        return [self.value(part, depth + 1) for part in _list(node, "items")]

    def _tuple(self, node: dict[str, JSON], depth: int) -> object:
        _members(node, "items")
        return tuple(self._items(node, depth))

    def _namedtuple(self, node: dict[str, JSON], depth: int) -> object:
        _members(node, "name", "fields", "items")
        fields = tuple(_text(name) for name in _list(node, "fields"))
        items = self._items(node, depth)
        if len(items) != len(fields):
            raise malformed("a named tuple has not as many items as fields")
        return self._types.tuple(_text(node["name"]), fields)(*items)

    def _enum(self, node: dict[str, JSON], depth: int) -> object:
        _members(node, "type", "name")
        kind, name = node["type"], node["name"]
        if not isinstance(kind, str) or not isinstance(name, str) or not kind or not name:
            raise malformed("an enum member needs the names of its type and of itself")
        return self._types.enum(kind, name)

    def _mapping(self, node: dict[str, JSON], depth: int) -> object:
        _members(node, "items", optional=("attributes",))
        made = _DICTS[str(node["$"])]()
        for item in _list(node, "items"):
            if not isinstance(item, list) or len(item) != 2:
                raise malformed("an item of a dict is not a pair")
            key = self._key(item[0], depth + 1)
            if key in made:
                raise malformed(f"the key {shown(key)} is there twice")
            made[key] = self.value(item[1], depth + 1)
        if "attributes" in node:
            self._set_attributes(made, node["attributes"], depth)
        return made

    def _set_attributes(self, made: dict[object, object], node: JSON, depth: int) -> None:
        attributes = decode_plain(node, self._types, depth + 1)
        if type(made) is dict or type(attributes) is not dict:
            raise malformed("attributes are an object, and a plain dict has none")
        if not all(is_attribute(type(made), name) for name in attributes):
            raise malformed("an attribute has a name that it cannot have")
        vars_of(made).update(attributes)

    def _key(self, node: JSON, depth: int) -> object:
        if depth > MAX_DEPTH:
            raise malformed(f"it is deeper than {MAX_DEPTH} levels")
        if not isinstance(node, dict):
            return _plain(node)
        tag = node.get("$")
        if tag == "tuple":
            _members(node, "items")
            return tuple(self._key(part, depth + 1) for part in _list(node, "items"))
        if tag in ("int", "float", "enum"):
            return self._kind(node)(node, depth)
        raise malformed(f"a node of the kind {str(tag)[:60]!r} is no key")

    def _bytes(self, node: dict[str, JSON], depth: int) -> object:
        if "base64" in node:
            _members(node, "base64")
            return _base64(node, MAX_INLINE_BYTES)
        _members(node, "array", "shape")
        shape = read_shape(node["shape"], 1)
        if len(shape) != 1:
            raise malformed("bytes have one dimension")
        return self._build(StoredArray(_name(node), "U8", shape, node, shape))

    def _array(self, node: dict[str, JSON], depth: int) -> object:
        _members(node, "array", "dtype", "shape")
        dtype = undescribe(node["dtype"])
        if dtype.itemsize == 0:
            raise malformed(f"an array of {dtype} has no bytes")
        shape = read_shape(node["shape"], dtype.itemsize)
        return self._build(StoredArray(_name(node), *stored_of_numpy(dtype, shape), node, shape))

    def _tensor(self, node: dict[str, JSON], depth: int) -> object:
        plain = node.keys() == _PLAIN_TENSOR
        if not plain:
            _members(node, "array", "dtype", "shape", optional=("requires_grad", "parameter"))
        dtype = node["dtype"]
        if not isinstance(dtype, str) or dtype not in TENSOR:
            raise malformed(f"there is no tensor of the dtype {str(dtype)[:60]!r}")
        if not plain:
            _check_flags(node, dtype)
        shape = read_shape(node["shape"], TENSOR[dtype][1])
        stored = stored_of_tensor(dtype, shape)
        return self._build(StoredArray(_name(node), *stored, node, shape))


_PLAIN_TENSOR = frozenset({"$", "array", "dtype", "shape"})


def _check_flags(node: dict[str, JSON], dtype: str) -> None:
    flags = [node[flag] for flag in ("requires_grad", "parameter") if flag in node]
    if any(flag is not True for flag in flags):
        raise malformed("a flag is there when it is true, and else it is not")
    if "requires_grad" in node and not dtype.startswith(("float", "bfloat", "complex")):
        raise malformed(f"a tensor of the dtype {dtype} has no gradient")


_DICTS: Mapping[str, Callable[[], Any]] = {
    "dict": dict, "ordereddict": OrderedDict, "counter": Counter,
}  # fmt: skip


def decode_plain(node: JSON, types: Types, depth: int) -> object:
    """Returns a part of a skeleton that holds no arrays."""

    def refuse(stored: StoredArray) -> object:
        raise malformed(f"the array {stored.name!r} is where none can be")

    return _Decoder(refuse, types).value(node, depth)


def _members(node: dict[str, JSON], *names: str, optional: tuple[str, ...] = ()) -> None:
    given = node.keys() - {"$"} - set(optional)
    if given != set(names):
        raise malformed(f"a node of the kind {node['$']!r} has the members {sorted(given)}")


def _list(node: dict[str, JSON], member: str) -> list[JSON]:
    value = node[member]
    if not isinstance(value, list):
        raise malformed(f"{member!r} of a {node['$']} is not an array")
    return value


def _plain(node: JSON) -> object:
    if isinstance(node, str):
        return _text(node)
    if type(node) is int and abs(node) >= MAX_EXACT:
        raise malformed("an integer from 2**53 on is written as text")
    if type(node) is float and not abs(node) < float("inf"):
        raise malformed("a float that is not finite is written as text")
    if node is None or type(node) in (bool, int, float):
        return node
    raise malformed(f"{type(node)} is no JSON")


def _text(value: JSON) -> str:
    if not isinstance(value, str) or not encodable(value):
        raise malformed("a text is not valid Unicode")
    return value


def _name(node: dict[str, JSON]) -> str:
    name = node["array"]
    if not isinstance(name, str) or not name or name in FORBIDDEN or not encodable(name):
        raise malformed(f"{str(name)[:60]!r} is no name of an array")
    return name


def _integer(node: dict[str, JSON], depth: int) -> object:
    _members(node, "value")
    text = node["value"]
    if not isinstance(text, str) or not _INTEGER.fullmatch(text):
        raise malformed(f"{str(text)[:60]!r} is no integer")
    return int(text, 16) if "x" in text else int(text)


def _float(node: dict[str, JSON], depth: int) -> object:
    _members(node, "value")
    text = node["value"]
    if not isinstance(text, str) or text not in _FLOATS:
        raise malformed(f"{str(text)[:60]!r} is none of {', '.join(_FLOATS)}")
    return _FLOATS[text]


def _scalar(node: dict[str, JSON], depth: int) -> object:
    _members(node, "dtype", "base64")
    dtype = undescribe(node["dtype"])
    data = _base64(node, max(dtype.itemsize, 1))
    if len(data) != dtype.itemsize:
        raise malformed(f"a scalar of {dtype} has {len(data)} bytes")
    array: np.ndarray[Any, Any] = np.ndarray((), dtype, bytearray(data))
    return array[()]


def _datetime(node: dict[str, JSON], depth: int) -> object:
    _members(node, "value", optional=("fold",))
    text = node["value"]
    try:
        value = datetime.fromisoformat(_text(text))
    except ValueError as error:
        raise malformed(f"{str(text)[:60]!r} is no date and time") from error
    if value.isoformat() != text or ("fold" in node and node["fold"] != 1):
        raise malformed(f"{str(text)[:60]!r} is not written as it should be")
    return value.replace(fold=1) if "fold" in node else value


def _base64(node: dict[str, JSON], limit: int) -> bytes:
    text = node["base64"]
    if not isinstance(text, str) or len(text) > 4 * (limit // 3 + 1):
        raise malformed("bytes are too long, or no text")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise malformed(f"bytes are not base64: {error}") from error
