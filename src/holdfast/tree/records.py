"""Named tuples and enums without importing anything by name from data."""

from __future__ import annotations

import functools
import keyword
import re
from collections import namedtuple
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from holdfast.errors import FormatError

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_MAX_FIELDS = 1000


@dataclass(frozen=True, slots=True)
class EnumName:
    """An enum member whose class was not at hand.

    Attributes:
        type: Name of its class.
        name: Its own name.
    """

    type: str
    name: str


def is_identifier(text: object) -> bool:
    """Returns whether a text is an ASCII identifier and no keyword."""
    return (
        type(text) is str
        and _IDENTIFIER.fullmatch(text) is not None
        and not keyword.iskeyword(text)
    )


def is_attribute(kind: type, name: object) -> bool:
    """Returns whether a name may be set on instances of a class without hiding what it has."""
    return is_identifier(name) and not hasattr(kind, str(name))


def field_names(kind: type) -> tuple[str, ...] | None:
    """Returns the fields of a named tuple's class, or None for any other class."""
    fields = getattr(kind, "_fields", None)
    if kind.__bases__ != (tuple,) or not isinstance(fields, tuple) or not hasattr(kind, "_make"):
        return None
    return fields if _are_fields(fields) and is_identifier(kind.__name__) else None


def _are_fields(fields: tuple[object, ...]) -> bool:
    return (
        len(fields) <= _MAX_FIELDS
        and len(set(fields)) == len(fields)
        and all(is_identifier(name) and not str(name).startswith("_") for name in fields)
    )


@dataclass(frozen=True, slots=True)
class Types:
    """The classes of a live tree, to be used again for what was stored of them.

    Attributes:
        enums: Class name to class.
        tuples: Class name and fields to class.
    """

    enums: Mapping[str, type[Enum]] = field(default_factory=dict)
    tuples: Mapping[tuple[str, tuple[str, ...]], type[Any]] = field(default_factory=dict)

    def enum(self, type_name: str, name: str) -> object:
        """Returns a member of the live class of that name, or an `EnumName`.

        Raises:
            FormatError: The live class has no such member.
        """
        kind = self.enums.get(type_name)
        if kind is None:
            return EnumName(type_name, name)
        member = kind.__members__.get(name)
        if member is None:
            raise FormatError(
                f"the enum {type_name} has no member {name!r}",
                hint="the code has changed since the save; add the member again",
            )
        return member

    def tuple(self, name: str, fields: tuple[str, ...]) -> type[Any]:
        """Returns the live class of that name and fields, or one made for the purpose.

        Raises:
            FormatError: The names are no identifiers, or occur twice.
        """
        kind = self.tuples.get((name, fields))
        if kind is not None:
            return kind
        if not is_identifier(name) or not _are_fields(fields):
            raise FormatError(
                f"{name!r} with {len(fields)} fields is not a named tuple",
                hint="the skeleton is damaged, or was written by a newer version",
            )
        return _named_tuple(name, fields)


@functools.lru_cache(maxsize=256)
def _named_tuple(name: str, fields: tuple[str, ...]) -> type[Any]:
    return namedtuple(name, fields)


def types_in(live: object) -> Types:
    """Returns the enum and named tuple classes that occur in a live tree, keys included.

    Two classes of one name are both left out: nothing says which of them was meant.
    """
    enums: dict[str, set[type[Enum]]] = {}
    tuples: dict[tuple[str, tuple[str, ...]], set[type[Any]]] = {}
    seen: set[int] = set()
    todo: list[object] = [live]
    while todo:
        value = todo.pop()
        if isinstance(value, Enum):
            enums.setdefault(type(value).__name__, set()).add(type(value))
        elif isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            if isinstance(value, dict):
                todo.extend(value)
                todo.extend(value.values())
                continue
            todo.extend(value)
            fields = field_names(type(value))
            if fields is not None:
                tuples.setdefault((type(value).__name__, fields), set()).add(type(value))
    return Types(
        {name: kinds.pop() for name, kinds in enums.items() if len(kinds) == 1},
        {key: kinds.pop() for key, kinds in tuples.items() if len(kinds) == 1},
    )
