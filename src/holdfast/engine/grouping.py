"""Which tensors share a shard: those that changed together last time.

A shard is reused whole or not at all, so what stays the same must not lie beside what changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from holdfast.engine.shardfile import Header, TensorEntry, file_order

#: A larger group is split, so that one changed tensor costs no more than this to write again.
MAX_GROUP_NBYTES: Final = 4 << 30
#: Less than this that stayed the same goes along with what changed: another file with its sync
#: costs more than writing it again.
MIN_RESTING_NBYTES: Final = 64 << 10


def group(
    tensors: Iterable[TensorEntry],
    *,
    stable: frozenset[str],
    parent: Sequence[Header],
) -> list[list[TensorEntry]]:
    """Returns an item's tensors in groups, each of which becomes one shard.

    Args:
        tensors: The item's tensors with their digests.
        stable: Names of those whose owner says that training leaves them as they are.
        parent: Headers of the item's shards in the parent checkpoint; empty without a parent.

    Returns:
        First the groups that equal a shard of the parent, in its order, then what stayed the
        same (or is said to), then what changed.
    """
    left: dict[str, TensorEntry] = {entry.name: entry for entry in tensors}
    before = {entry.name: entry for header in parent for entry in header.tensors}
    groups: list[list[TensorEntry]] = []
    for header in parent:
        entries = header.tensors
        if entries and all(_same(left.get(entry.name), entry) for entry in entries):
            groups.append([left.pop(entry.name) for entry in entries])
    resting = {name for name, entry in left.items() if _same(entry, before.get(name))} | (
        stable & left.keys()
    )
    if sum(left[name].nbytes for name in resting) < MIN_RESTING_NBYTES:
        resting = set()
    for names in (resting, left.keys() - resting):
        groups.extend(_split(file_order(left[name] for name in names)))
    return groups


def aliases_of(group: Iterable[TensorEntry], aliases: Mapping[str, str]) -> dict[str, str]:
    """Returns the aliases whose tensor is in a group."""
    names = {entry.name for entry in group}
    return {alias: name for alias, name in aliases.items() if name in names}


def _same(one: TensorEntry | None, other: TensorEntry | None) -> bool:
    return (
        one is not None
        and other is not None
        and (one.digest, one.dtype, one.shape) == (other.digest, other.dtype, other.shape)
    )


def _split(entries: Sequence[TensorEntry]) -> list[list[TensorEntry]]:
    groups: list[list[TensorEntry]] = []
    room = 0
    for entry in entries:
        if not groups or entry.nbytes > room:
            groups.append([])
            room = MAX_GROUP_NBYTES
        groups[-1].append(entry)
        room -= entry.nbytes
    return groups
