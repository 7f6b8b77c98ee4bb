"""Text for the terminal: what comes from a store made harmless, values of a configuration, JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from holdfast.readable import (
    age,
    count,
    iso,
    metrics_text,
    moment,
    nbytes_text,
    number,
    printable,
    seconds_text,
    strict,
)

__all__ = [
    "age",
    "count",
    "iso",
    "json_text",
    "leaves",
    "metrics_text",
    "moment",
    "nbytes_text",
    "number",
    "printable",
    "seconds_text",
    "strict",
    "value_text",
]

#: A mapping with more values than this would bury what stands around it.
_MANY = 12


def json_text(value: object, *, indent: int | None = None) -> str:
    """Returns a value as JSON in which what is not printable is escaped; NaN as in `strict`."""
    text = json.dumps(strict(value), indent=indent, ensure_ascii=False, allow_nan=False)
    return "".join(
        # Outside of texts JSON has nothing but printable characters and its own line feeds.
        char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1]
        for char in text
    )


def leaves(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields nested values as ``("net.depth", "4")``; large mappings by their size alone."""
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and 0 < _size(value) <= _MANY:
            yield from leaves(value, f"{path}.")
        else:
            yield path, value_text(value)


def value_text(value: object) -> str:
    """Returns a value of a configuration: text as it is, a mapping by its size."""
    if isinstance(value, Mapping) and value:
        return f"{count(_size(value), 'value')}, see --json"
    return value if isinstance(value, str) else repr(value)


def _size(value: object) -> int:
    return sum(map(_size, value.values())) if isinstance(value, Mapping) else 1
