"""How two checkpoints differ: by metrics, configuration, and the digests of their tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

import numpy as np

from holdfast.engine import reader
from holdfast.engine.manifest import Manifest
from holdfast.engine.reader import Located
from holdfast.engine.sealed import encode_numbers
from holdfast.engine.shardfile import ITEM_NBYTES
from holdfast.lifecycle import floats
from holdfast.lifecycle.loading import telling_deleted
from holdfast.lifecycle.place import Place
from holdfast.model import CheckpointRecord, Metrics

#: Elements that are widened to float64 at once.
_PIECE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class MetricChange:
    """A metric in both checkpoints; None where one of them lacks it."""

    before: float | None
    after: float | None

    @property
    def delta(self) -> float | None:
        """How much it rose; None where a checkpoint lacks it."""
        if self.before is None or self.after is None:
            return None
        return self.after - self.before


@dataclass(frozen=True, slots=True)
class ValueChange:
    """A value of the configuration or the metadata that differs.

    Attributes:
        kind: Whether it was added, removed, or changed.
        before: What it was; None where it was added.
        after: What it is; None where it was removed.
    """

    kind: Literal["added", "removed", "changed"]
    before: object = None
    after: object = None


@dataclass(frozen=True, slots=True)
class ItemChange:
    """The tensors of an item, by name, sorted.

    Attributes:
        added: Only in the second checkpoint.
        removed: Only in the first.
        changed: In both, with other bytes, another dtype or another shape.
        same: In both, the same to the bit.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    same: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TensorChange:
    """How far a floating-point tensor moved.

    Attributes:
        before: Its L2 norm in the first checkpoint.
        after: Its L2 norm in the second.
        difference: L2 norm of the difference.
        largest: Largest absolute difference of an element.
    """

    before: float
    after: float
    difference: float
    largest: float


@dataclass(frozen=True, slots=True)
class Difference:
    """How two checkpoints differ.

    Attributes:
        a: Id of the first.
        b: Id of the second.
        metrics: Metric name to its values in both, unchanged ones included.
        config: Dotted path to what differs in the configuration.
        metadata: Dotted path to what differs in what their callers attached.
        items: Item name to what became of its tensors.
        tensors: Item name to tensor name to how far it moved; empty unless it was asked for.
    """

    a: str
    b: str
    metrics: Mapping[str, MetricChange]
    config: Mapping[str, ValueChange]
    metadata: Mapping[str, ValueChange]
    items: Mapping[str, ItemChange]
    tensors: Mapping[str, Mapping[str, TensorChange]] = field(default_factory=dict)

    @property
    def same_tensors(self) -> bool:
        """Whether both hold the same tensors to the bit."""
        return not any(i.added or i.removed or i.changed for i in self.items.values())

    def as_dict(self) -> dict[str, Any]:
        """Returns it as plain JSON values; non-finite numbers become text (``"NaN"``)."""
        members: dict[str, object] = {
            "a": self.a,
            "b": self.b,
            "metrics": {
                name: {"before": m.before, "after": m.after, "delta": m.delta}
                for name, m in self.metrics.items()
            },
            "config": {path: _value(change) for path, change in self.config.items()},
            "metadata": {path: _value(change) for path, change in self.metadata.items()},
            "items": {
                name: {
                    "added": item.added,
                    "removed": item.removed,
                    "changed": item.changed,
                    "same": item.same,
                }
                for name, item in self.items.items()
            },
            "tensors": {
                item: {
                    name: {
                        "before": t.before,
                        "after": t.after,
                        "difference": t.difference,
                        "largest": t.largest,
                    }
                    for name, t in tensors.items()
                }
                for item, tensors in self.tensors.items()
            },
        }
        return cast("dict[str, Any]", encode_numbers(members))


def compare(
    place: Place, a: CheckpointRecord, b: CheckpointRecord, *, norms: bool = False
) -> Difference:
    """Returns how two checkpoints of a store differ.

    Tensors are told apart by the digests in their shards' headers; no tensor is read.

    Args:
        place: The store.
        a: The first checkpoint, as the catalog knows it: late metrics count.
        b: The second.
        norms: Read the floating-point tensors that changed, verified, and measure how far they
            moved. Those whose shape changed, too, are left out.

    Raises:
        NotFoundError: One of them was deleted since.
        IntegrityError, FormatError: A manifest, a header or, with `norms`, a tensor is damaged.
    """
    first, second = place.manifest(a.info.id), place.manifest(b.info.id)
    before, after = _tensors(place, first), _tensors(place, second)
    items = {
        name: _item(before.get(name, {}), after.get(name, {}))
        for name in sorted({*first.items, *second.items})
    }
    changed = [name for name, item in items.items() if norms and item.changed]
    with telling_deleted(place, first, changed), telling_deleted(place, second, changed):
        moved = {
            name: dict(_moved(place, items[name], before[name], after[name])) for name in changed
        }
    return Difference(
        a=first.id,
        b=second.id,
        metrics=_metrics(a.info.metrics, b.info.metrics),
        config=dict(_values(first.config, second.config)),
        metadata=dict(_values(first.metadata, second.metadata)),
        items=items,
        tensors={name: tensors for name, tensors in moved.items() if tensors},
    )


def _tensors(place: Place, manifest: Manifest) -> dict[str, dict[str, Located]]:
    with telling_deleted(place, manifest, manifest.items):
        return {item: reader.locate(place.storage, manifest, item) for item in manifest.items}


def _item(before: Mapping[str, Located], after: Mapping[str, Located]) -> ItemChange:
    both = before.keys() & after.keys()
    same = {name for name in both if _content(before[name]) == _content(after[name])}
    return ItemChange(
        added=tuple(sorted(after.keys() - before.keys())),
        removed=tuple(sorted(before.keys() - after.keys())),
        changed=tuple(sorted(both - same)),
        same=tuple(sorted(same)),
    )


def _content(place: Located) -> tuple[str, str, tuple[int, ...]]:
    return place.entry.digest, place.entry.dtype, place.entry.shape


def _metrics(before: Metrics, after: Metrics) -> dict[str, MetricChange]:
    return {
        name: MetricChange(before.get(name), after.get(name)) for name in sorted({*before, *after})
    }


def _values(
    before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, ValueChange]]:
    for key in sorted({*before, *after}):
        path = f"{prefix}{key}"
        if key not in before:
            yield path, ValueChange("added", after=after[key])
        elif key not in after:
            yield path, ValueChange("removed", before=before[key])
        elif isinstance(before[key], dict) and isinstance(after[key], dict):
            yield from _values(before[key], after[key], f"{path}.")
        elif (type(before[key]), before[key]) != (type(after[key]), after[key]):
            yield path, ValueChange("changed", before[key], after[key])


def _value(change: ValueChange) -> dict[str, object]:
    return {"kind": change.kind, "before": change.before, "after": change.after}


def _moved(
    place: Place, item: ItemChange, before: Mapping[str, Located], after: Mapping[str, Located]
) -> Iterator[tuple[str, TensorChange]]:
    for name in item.changed:
        pair = before[name], after[name]
        comparable = pair[0].entry.shape == pair[1].entry.shape
        if comparable and all(side.entry.dtype in floats.FLOATS for side in pair):
            # One pair at a time: two checkpoints need not fit into memory.
            buffers = [np.empty(side.entry.nbytes, np.uint8).data for side in pair]
            reader.read_tensors(place.storage, zip(pair, buffers, strict=True))
            yield name, _measure(pair, buffers)


def _measure(pair: tuple[Located, Located], buffers: list[memoryview]) -> TensorChange:
    squares = np.zeros(3)
    largest = 0.0
    sizes = [ITEM_NBYTES[side.entry.dtype] for side in pair]
    count = math.prod(pair[0].entry.shape)
    for begin in range(0, count, _PIECE):
        end = min(begin + _PIECE, count)
        a, b = (
            floats.decode(side.entry.dtype, buffer[begin * size : end * size])
            for side, buffer, size in zip(pair, buffers, sizes, strict=True)
        )
        with np.errstate(all="ignore"):
            gap = np.abs(b - a)
            parts = (np.abs(a), np.abs(b), gap)
            squares += [float(np.dot(part, part)) for part in parts]
            largest = float(np.maximum(largest, gap.max()))
    before, after, difference = (math.sqrt(square) for square in squares)
    return TensorChange(before, after, difference, largest)
