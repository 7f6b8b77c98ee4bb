"""A nested state as a JSON skeleton and named arrays."""

from __future__ import annotations

import base64
import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from typing import Any

import numpy as np

from holdfast import frameworks
from holdfast.errors import TreeError
from holdfast.frameworks import JSON, Leaf, Node
from holdfast.tree.arrays import NumpyLeaf
from holdfast.tree.detached import Detached
from holdfast.tree.dtypes import describe
from holdfast.tree.flat import Flat, outline_all
from holdfast.tree.paths import array_name, decimal, encodable, render
from holdfast.tree.records import field_names, is_attribute

#: How deep containers may lie in one another.
MAX_DEPTH = 100
#: Longer bytes are stored as arrays.
MAX_INLINE_BYTES = 4096
#: From here on integers are text: JSON's numbers are doubles to many readers.
MAX_EXACT = 2**53

_SHOWN = 20


def flatten(state: object, *, path: str = "") -> Flat:
    """Returns a state as a skeleton and named live arrays.

    Python values are copied now, arrays when `Flat.copy_into` is called.

    Args:
        state: Any nesting of dict, list, tuple, named tuple, None, bool, int, float, str, bytes,
            datetime, enum members, numpy arrays and scalars, and arrays of present frameworks.
        path: What messages call the state.

    Raises:
        TreeError: Something in it cannot be stored; `TreeError.problems` lists all of it.
    """
    walk = Walk(path)
    skeleton = walk.whole(state)
    return Flat(skeleton, walk.leaves, walk.aliases, outline_all(walk.leaves, walk.aliases))


def unstorable(problems: Sequence[str]) -> TreeError:
    """Returns the one error for everything that cannot be stored."""
    lines = list(problems[:_SHOWN])
    if len(problems) > _SHOWN:
        lines.append(f"and {len(problems) - _SHOWN} more")
    return TreeError(
        "the state cannot be stored: " + "\n  ".join(lines),
        hint="each line names what to do",
        problems=tuple(problems),
    )


def leaf_of(
    value: object, known: Iterable[frameworks.Framework], *, detached: bool = False
) -> Leaf | None:
    """Returns an array, or bytes that are stored as one, as a leaf; None for anything else.

    Args:
        value: Anything.
        known: The frameworks to ask.
        detached: Whether it lies in a `Detached`.

    Raises:
        TreeError: It is an array that cannot be stored.
    """
    if type(value) is np.ndarray:
        return NumpyLeaf(value)
    if type(value) is bytes:
        return NumpyLeaf(np.frombuffer(value, np.uint8), kind="bytes")
    for framework in known:
        leaf = framework.leaf(value, detached=detached)
        if leaf is not None:
            return leaf
    return None


@dataclass(slots=True, eq=False)
class Place:
    """A place in a state that holds an array.

    Attributes:
        name: The name that the array is stored under; several places may be one array.
        leaf: The array.
        identity: Of the leaf.
        detached: Whether it lies in a `Detached`.
    """

    name: str
    leaf: Leaf
    identity: Hashable
    detached: bool


class Walk:
    """One walk over a state.

    Args:
        base: What messages call the state.

    Attributes:
        leaves: As in `Flat`.
        aliases: As in `Flat`.
        places: All arrays in the order in which they were met.
        problems: What cannot be stored.
    """

    def __init__(self, base: str) -> None:
        self.leaves: dict[str, Leaf] = {}
        self.aliases: dict[str, str] = {}
        self.places: list[Place] = []
        self.problems: list[str] = []
        self._base = base
        self._keys: list[object] = []
        self._open: set[int] = set()
        self._paths: dict[str, tuple[object, ...]] = {}
        self._first: dict[Hashable, str] = {}
        self._frameworks = frameworks.present()

    def whole(self, state: object) -> JSON:
        """Returns the skeleton of the state.

        Raises:
            TreeError: Something in it cannot be stored.
        """
        skeleton = self._node(state)
        if self.problems:
            raise unstorable(self.problems)
        return skeleton

    def _node(self, value: object, *, detached: bool = False) -> JSON:
        """Returns the skeleton of a value; what cannot be stored becomes a problem and None."""
        try:
            return self._encode(value, detached)
        except TreeError as error:
            advice = f"; {error.hint}" if error.hint else ""
            self.problems.append(f"{render(self._base, self._keys)}: {error.message}{advice}")
            return None

    def _encode(self, value: object, detached: bool) -> JSON:
        scalar = scalar_node(value)
        if scalar is not NO_SCALAR:
            return scalar
        if isinstance(value, (dict, list, tuple)):
            return self._container(value)
        leaf = leaf_of(value, self._frameworks, detached=detached)
        if leaf is None:
            raise TreeError(f"{type(value)} cannot be stored", hint=_advice(value))
        return self._array(leaf, detached)

    def _array(self, leaf: Leaf, detached: bool) -> Node:
        name = array_name(self._keys)
        if name in self._paths:
            other = render(self._base, self._paths[name])
            raise TreeError(
                f"would be stored under the name {name!r}, and so would {other}",
                hint="give one of the two keys another name",
            )
        self._paths[name] = tuple(self._keys)
        identity = leaf.identity
        first = self._first.setdefault(identity, name)
        self.places.append(Place(first, leaf, identity, detached))
        if first == name:
            self.leaves[name] = leaf
        else:
            self.aliases[name] = first
        return leaf.node(first)

    def _container(self, value: dict[object, object] | list[object] | tuple[object, ...]) -> JSON:
        if id(value) in self._open:
            raise TreeError("contains itself", hint="break the cycle before saving")
        if len(self._keys) >= MAX_DEPTH:
            raise TreeError(f"lies deeper than {MAX_DEPTH} levels", hint="flatten the state")
        self._open.add(id(value))
        try:
            if isinstance(value, dict):
                return self._mapping(value)
            return self._sequence(value)
        finally:
            self._open.discard(id(value))

    def _mapping(self, value: dict[object, object]) -> JSON:
        kind = type(value)
        whole: Collection[object] | None = None
        if isinstance(value, Detached):
            kind, whole = dict, value.whole
        if kind is dict and all(_is_plain_key(key) for key in value):
            return {
                str(key): self._below(key, part, detached=whole is not None and key not in whole)
                for key, part in value.items()
            }
        tag = _MAPPINGS.get(kind)
        if tag is None:
            raise TreeError(f"{kind} cannot be stored", hint=_advice(value))
        items: list[JSON] = []
        for key, part in value.items():
            detached = whole is not None and key not in whole
            items.append([self._key(key), self._below(key, part, detached=detached)])
        node: Node = {"$": tag, "items": items}
        # An ordered dict can carry attributes; torch keeps the modules' versions in one.
        attributes = {} if kind is dict else vars(value)
        if attributes:
            node["attributes"] = self._attributes(kind, attributes)
        return node

    def _attributes(self, kind: type, attributes: dict[Any, object]) -> JSON:
        before = len(self._paths)
        node = self._mapping(dict(attributes))
        odd = any(not is_attribute(kind, name) for name in attributes)
        if odd or len(self._paths) != before:
            raise TreeError("has attributes that cannot be stored", hint="store dict(it)")
        return node

    def _key(self, key: object) -> JSON:
        try:
            return key_node(key)
        except TreeError as error:
            self._keys.append(key)
            where = render(self._base, self._keys)
            self._keys.pop()
            self.problems.append(f"{where}: the key {error.message}; {error.hint}")
            return None

    def _sequence(self, value: list[object] | tuple[object, ...]) -> JSON:
        kind = type(value)
        if kind is list:
            return [self._below(index, part) for index, part in enumerate(value)]
        parts = enumerate(value)
        if kind is tuple:
            return {"$": "tuple", "items": [self._below(index, part) for index, part in parts]}
        fields = field_names(kind)
        if fields is None:
            raise TreeError(f"{kind} cannot be stored", hint=_advice(value))
        return {
            "$": "namedtuple",
            "name": kind.__name__,
            "fields": list(fields),
            "items": [self._below(fields[index], part) for index, part in parts],
        }

    def _below(self, key: object, value: object, *, detached: bool = False) -> JSON:
        self._keys.append(key)
        try:
            return self._node(value, detached=detached)
        finally:
            self._keys.pop()


#: What `scalar_node` returns for a value that holds others, or is an array.
NO_SCALAR: Node = {}
_MAPPINGS: Mapping[type, str] = {dict: "dict", OrderedDict: "ordereddict", Counter: "counter"}


def _is_plain_key(key: object) -> bool:
    return type(key) is str and not key.startswith("$") and encodable(key)


def scalar_node(value: object) -> JSON:
    """Returns the node of a value that holds no other, else `NO_SCALAR`.

    Raises:
        TreeError: It cannot be stored.
    """
    if value is None or value is True or value is False:
        return value
    if isinstance(value, Enum):
        return _enum(value)
    if isinstance(value, np.generic):
        # numpy gives an empty string the bytes of one character, which its dtype has no room for.
        data = value.tobytes()[: value.dtype.itemsize]
        return {"$": "scalar", "dtype": describe(value.dtype), "base64": _base64(data)}
    encode = _SCALARS.get(type(value))
    return NO_SCALAR if encode is None else encode(value)


def key_node(key: object) -> JSON:
    """Returns the skeleton of a dict's key: str, int, float, bool, None, tuples of them, enums.

    Raises:
        TreeError: It is something else.
    """
    if type(key) is tuple:
        return {"$": "tuple", "items": [key_node(part) for part in key]}
    if key is None or type(key) in (str, int, float, bool) or isinstance(key, Enum):
        return scalar_node(key)
    raise TreeError(
        f"{type(key)} cannot be stored",
        hint="use str, int, float, bool, None, tuples of them, or enum members",
    )


def integer_node(value: int) -> JSON:
    """Returns an integer as a JSON number, or as text from 2**53 on."""
    if abs(value) < MAX_EXACT:
        return value
    return {"$": "int", "value": decimal(value)}


def _text(value: str) -> str:
    if encodable(value):
        return value
    raise TreeError("a string with a lone surrogate cannot be stored", hint="store os.fsencode(it)")


def _float(value: float) -> JSON:
    if math.isfinite(value):
        return value
    name = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return {"$": "float", "value": name}


def _enum(value: Enum) -> Node:
    kind = type(value)
    if kind.__members__.get(value.name) is not value:
        raise TreeError(
            f"{value!r} is no single member of {kind}", hint="store its .value and build it again"
        )
    return {"$": "enum", "type": kind.__name__, "name": value.name}


def _datetime(value: datetime) -> Node:
    if value.tzinfo is not None and type(value.tzinfo) is not timezone:
        raise TreeError(
            f"a datetime with the time zone {value.tzinfo!r} cannot be stored",
            hint="store value.astimezone(datetime.timezone.utc)",
        )
    node: Node = {"$": "datetime", "value": value.isoformat()}
    if value.fold:
        node["fold"] = value.fold
    return node


def _bytes(value: bytes) -> Node:
    short = len(value) <= MAX_INLINE_BYTES
    return {"$": "bytes", "base64": _base64(value)} if short else NO_SCALAR


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


#: By exact class: a subclass of any of these would not come back as itself.
_SCALARS: Mapping[type, Callable[[Any], JSON]] = {
    str: _text,
    int: integer_node,
    float: _float,
    bytes: _bytes,
    datetime: _datetime,
}


_ADVICE: Iterable[tuple[type | tuple[type, ...], str]] = (
    ((set, frozenset), "store a sorted list of it"),
    ((bytearray, memoryview), "store bytes(it)"),
    (dict, "store dict(it)"),
    (np.ndarray, "store numpy.asarray(it)"),
    (tuple, "store tuple(it)"),
    (list, "store list(it)"),
    (str, "store str(it)"),
    (int, "store int(it)"),
    (float, "store float(it)"),
    (datetime, "store it as a plain datetime"),
    (complex, "store the real and the imaginary part"),
)


def _advice(value: object) -> str:
    for kinds, advice in _ADVICE:
        if isinstance(value, kinds):
            return advice
    if callable(getattr(value, "state_dict", None)):
        return "attach it as an item of its own, or store its state_dict()"
    return "leave it out, or store it as numbers, strings, lists, dicts or arrays"
