"""From a checkpoint's shards to live objects, or to new ones; every tensor checked."""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from holdfast import items as item_state
from holdfast import tree
from holdfast.engine import reader
from holdfast.engine.manifest import Manifest
from holdfast.errors import HoldfastError, IntegrityError, NotFoundError, TreeError
from holdfast.frameworks import Sink
from holdfast.lifecycle.place import Place
from holdfast.tree import render

Targets = Mapping[str, memoryview | Sink]


class MixedError(IntegrityError):
    """Damage that was met while live objects were being written: they hold mixed values."""


@contextlib.contextmanager
def telling_deleted(place: Place, manifest: Manifest, items: Iterable[str]) -> Iterator[None]:
    """Tells a file that is lost from one that another process takes away while it is read.

    Deleting and thinning begin with the manifest: where a file of theirs is gone, the manifest
    says so already.

    Args:
        place: The store.
        manifest: What the reader goes by.
        items: Names of the items that are read.

    Raises:
        NotFoundError: The checkpoint was deleted since, or an item thinned away.
    """
    try:
        yield
    except IntegrityError as error:
        if error.missing:
            now = place.manifest(manifest.id)
            for item in items:
                reader.stored_item(now, item)
        raise


def load_item(
    place: Place,
    manifest: Manifest,
    item: str,
    *,
    keys: Iterable[str] | None = None,
    device: object | None = None,
    dtype: object | None = None,
) -> Any:
    """Returns an item's state as new objects; arguments and errors as `Checkpoint.load`."""
    skeleton = reader.stored_item(manifest, item).skeleton
    if keys is not None:
        skeleton = _matching(manifest, item, list(keys))
    sizes = {name: array.nbytes for name, array in tree.array_nodes(skeleton).items()}
    with telling_deleted(place, manifest, [item]):
        # Before memory is taken: a skeleton can name any size, a shard no more than its file.
        located = _locate(place, manifest, item, sizes)
        buffers = {name: _memory(nbytes, name) for name, nbytes in sizes.items()}
        reader.read_tensors(place.storage, [(located[name], buffers[name]) for name in buffers])
    return tree.unflatten(skeleton, buffers, device=device, dtype=dtype)


def restore(
    place: Place, manifest: Manifest, objects: Mapping[str, object], *, partial: bool = False
) -> list[str]:
    """Restores live objects in place; arguments and errors as `Checkpoint.restore`.

    Args:
        place: The store.
        manifest: The checkpoint.
        objects: Item name to live object.
        partial: Whether to load what fits and leave the rest.
    """
    skeletons = {item: reader.stored_item(manifest, item).skeleton for item in objects}
    plans = {
        item: item_state.plan_restore(live, skeletons[item], path=item, partial=partial)
        for item, live in objects.items()
    }
    problems = tuple(line for plan in plans.values() for line in plan.problems)
    if problems:
        raise TreeError(
            f"{manifest.id} does not fit:\n  " + "\n  ".join(problems),
            hint="nothing was changed; partial=True loads what fits",
            problems=problems,
        )
    with telling_deleted(place, manifest, objects):
        located = {
            item: _locate(
                place, manifest, item, {**_sizes(plan.buffers), **_sizes(plan.sinks), **plan.rest}
            )
            for item, plan in plans.items()
        }
        staged = {
            item: {name: _memory(nbytes, name) for name, nbytes in plan.rest.items()}
            for item, plan in plans.items()
        }
        targets: dict[str, Targets] = {
            i: {**plan.buffers, **plan.sinks, **staged[i]} for i, plan in plans.items()
        }
        _fill(
            place,
            [
                (located[i][name], target)
                for i, named in targets.items()
                for name, target in named.items()
            ],
        )
    for item, plan in plans.items():
        plan.finish(staged[item])
    return [f"{item}.{name}" for item, plan in plans.items() for name in plan.loaded]


def _fill(place: Place, wanted: Iterable[tuple[reader.Located, memoryview | Sink]]) -> None:
    """Reads into live objects, and says so where a failure leaves them half-way."""
    try:
        reader.read_tensors(place.storage, wanted)
    except IntegrityError as error:
        if error.missing:
            # Met before anything was read.
            raise
        raise MixedError(
            f"{error.message}; the objects now hold a mixture of old and new values",
            hint="restore another checkpoint into them before going on",
            path=error.path,
            tensor=error.tensor,
        ) from error


def _locate(
    place: Place, manifest: Manifest, item: str, sizes: Mapping[str, int]
) -> dict[str, reader.Located]:
    """Returns where arrays are, after comparing how long they are there."""
    located = reader.locate(place.storage, manifest, item)
    for name, nbytes in sizes.items():
        where = located.get(name)
        if where is None or where.entry.nbytes != nbytes:
            held = "is missing" if where is None else f"has {where.entry.nbytes} bytes"
            raise IntegrityError(
                f"{manifest.id}: {render(item, [name])} {held}, and its manifest says {nbytes}",
                hint="use another checkpoint or a mirror",
                path=manifest.folder,
                tensor=name,
            )
    return located


def _sizes(targets: Targets) -> dict[str, int]:
    return {name: _nbytes(target) for name, target in targets.items()}


def _nbytes(target: memoryview | Sink) -> int:
    if isinstance(target, memoryview):
        return target.nbytes
    _, start, end = target.span
    return end - start


def _matching(manifest: Manifest, item: str, patterns: list[str]) -> dict[str, Any]:
    stored = tree.array_nodes(reader.stored_item(manifest, item).skeleton)
    found = {
        name: array.node
        for name, array in stored.items()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    }
    if not found:
        some = ", ".join(map(repr, list(stored)[:8])) + (", ..." if len(stored) > 8 else "")
        raise NotFoundError(
            f"{manifest.id}: no array of {item!r} matches {', '.join(patterns)}",
            hint=f"its arrays: {some}",
        )
    return found


def _memory(nbytes: int, name: str) -> memoryview:
    try:
        # numpy's memory is not zeroed first, unlike a bytearray's.
        return np.empty(nbytes, np.uint8).data
    except MemoryError as error:
        raise HoldfastError(
            f"there is no memory for the {nbytes} bytes of {name!r}",
            hint="load fewer tensors with keys=, or restore into live objects",
        ) from error
