"""Checkpoints side by side: metrics, what of their configuration differs, and their tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from holdfast.checkpoint import Checkpoint
from holdfast.errors import ConfigError, HoldfastError, NotFoundError
from holdfast.lifecycle.diffing import Difference
from holdfast.model import CheckpointInfo
from holdfast.store import Store

#: What stands for a value that a configuration lacks.
ABSENT: Final = "-"


@dataclass(frozen=True, slots=True)
class Entry:
    """A checkpoint in a comparison.

    Attributes:
        asked: What it was asked for by.
        info: What it is.
    """

    asked: str
    info: CheckpointInfo


@dataclass(frozen=True, slots=True)
class Comparison:
    """Checkpoints side by side.

    Attributes:
        entries: The checkpoints, in the order in which they were asked for.
        problems: What could not be found, to why.
        metrics: Name of a metric to its values, one for each entry; None where it has none.
        config: Dotted path to its values as text, one for each entry; only where they differ.
    """

    entries: tuple[Entry, ...]
    problems: Mapping[str, str]
    metrics: Mapping[str, tuple[float | None, ...]]
    config: Mapping[str, tuple[str, ...]]

    @property
    def runs(self) -> tuple[str, ...]:
        """Names of their runs, each once."""
        return tuple(dict.fromkeys(entry.info.run for entry in self.entries))


def compare(store: Store, asked: Sequence[str]) -> Comparison:
    """Returns checkpoints side by side; the name of a run stands for its best one.

    Args:
        store: The store.
        asked: References, ids, or names of runs.
    """
    found: list[tuple[str, Checkpoint, Mapping[str, object]]] = []
    problems: dict[str, str] = {}
    for text in asked:
        try:
            checkpoint = _find(store, text)
            found.append((text, checkpoint, dict(_leaves(checkpoint.config))))
        except HoldfastError as error:
            problems[text] = f"{error.message} ({error.hint})" if error.hint else error.message
    names = sorted({name for _, checkpoint, _ in found for name in checkpoint.metrics})
    paths = sorted({path for _, _, config in found for path in config})
    config = {
        path: tuple(_text(config[path]) if path in config else ABSENT for _, _, config in found)
        for path in paths
    }
    return Comparison(
        tuple(Entry(text, checkpoint.info) for text, checkpoint, _ in found),
        problems,
        {name: tuple(one.metrics.get(name) for _, one, _ in found) for name in names},
        {path: values for path, values in config.items() if len(set(values)) > 1},
    )


def difference(store: Store, a: str, b: str, *, norms: bool = False) -> Difference:
    """Returns how the tensors of two checkpoints differ.

    Args:
        store: The store.
        a: Id of the first.
        b: Id of the second.
        norms: Read the tensors that changed, and measure how far they moved.

    Raises:
        NotFoundError: One of them was deleted since.
        IntegrityError, FormatError: One of them is damaged.
    """
    return store.diff(a, b, norms=norms)


def _find(store: Store, text: str) -> Checkpoint:
    if text not in store:
        return store.get(text)
    try:
        return store[text].best()
    except (ConfigError, NotFoundError):
        return store[text].latest()


def _leaves(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _text(value: object) -> str:
    return value if isinstance(value, str) else repr(value)
