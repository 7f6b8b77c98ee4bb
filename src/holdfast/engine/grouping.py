"""Which tensors share a shard: those that changed together last time.

A shard is reused whole or not at all, so what stays the same must not lie beside what changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from holdfast.engine.shardfile import Header, TensorEntry, file_order

#: A larger group is split, so that one changed tensor costs no more than this to write again.
MAX_GROUP_NBYTES: Final = 4 << 30
#: Less than this that stayed the same goes along with what changed: another file with its sync
#: costs more than writing it again.
MIN_RESTING_NBYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Groups:
    """An item's tensors in groups, each of which becomes one shard.

    Attributes:
        kept: Those that equal a shard of the parent, in its order.
        resting: What stayed the same, or is said to, and lay among what did not.
        changed: The rest.
    """

    kept: list[list[TensorEntry]]
    resting: list[list[TensorEntry]]
    changed: list[list[TensorEntry]]

    @property
    def all(self) -> list[list[TensorEntry]]:
        """All of them, in the order of their files."""
        return [*self.kept, *self.resting, *self.changed]


def group(
    tensors: Iterable[TensorEntry],
    *,
    stable: frozenset[str],
    parent: Sequence[Header],
) -> Groups:
    """Returns an item's tensors in groups, each of which becomes one shard.

    Args:
        tensors: The item's tensors with their digests.
        stable: Names of those whose owner says that training leaves them as they are.
        parent: Headers of the item's shards in the parent checkpoint; empty without a parent.

    Returns:
        Each tensor in one group.
    """
    left: dict[str, TensorEntry] = {entry.name: entry for entry in tensors}
    before = {entry.name: entry for header in parent for entry in header.tensors}
    kept: list[list[TensorEntry]] = []
    for header in parent:
        entries = header.tensors
        if entries and all(same_tensor(left.get(entry.name), entry) for entry in entries):
            kept.append([left.pop(entry.name) for entry in entries])
    resting = {name for name, entry in left.items() if same_tensor(entry, before.get(name))} | (
        stable & left.keys()
    )
    if sum(left[name].nbytes for name in resting) < MIN_RESTING_NBYTES:
        resting = set()
    changed = left.keys() - resting
    return Groups(
        kept,
        _split(file_order(left[name] for name in resting)),
        _split(file_order(left[name] for name in changed)),
    )


def aliases_of(group: Iterable[TensorEntry], aliases: Mapping[str, str]) -> dict[str, str]:
    """Returns the aliases whose tensor is in a group."""
    names = {entry.name for entry in group}
    return {alias: name for alias, name in aliases.items() if name in names}


def same_tensor(one: TensorEntry | None, other: TensorEntry | None) -> bool:
    """Returns whether both are there and hold the same values in the same form."""
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
