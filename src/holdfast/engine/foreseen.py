"""A shard that is written while its tensors are still being hashed.

Hashing is several times as fast as the medium, and where a training changes the same tensors from
save to save, the next shard's members are known beforehand. What was foreseen wrongly is thrown
away: which shards a checkpoint has is decided by digests alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from holdfast.engine.grouping import MIN_RESTING_NBYTES, aliases_of
from holdfast.engine.hashing import HashAhead
from holdfast.engine.layout import ArrayCopy
from holdfast.engine.shardfile import HeaderTemplate, TensorEntry, file_order
from holdfast.engine.snapshot import ItemCopy, Snapshot
from holdfast.storage import Draft, LocalStorage

#: Below this, nothing is gained: hashing all of it takes less than one more file.
_MIN_NBYTES: Final = 1 << 20
_PIECE_NBYTES: Final = 16 << 20
#: A first tensor up to this size is waited for, to know at once when nothing changed at all.
_WAITED_NBYTES: Final = 32 << 20

#: Hears what a save does now, and how many bytes more are written.
Tell = Callable[[str, int], None]


class ForeseenShard:
    """One shard of an item, in the making.

    Args:
        arrays: Its members.
        aliases: Those of the item.
        template: The header of the shard that held them in the parent checkpoint.
        before: Their digests there, by name.

    Attributes:
        arrays: Its members, in file order.
        template: Its header without the digests.
    """

    def __init__(
        self,
        arrays: Sequence[ArrayCopy],
        aliases: Mapping[str, str],
        template: HeaderTemplate,
        before: Mapping[str, str],
    ) -> None:
        entries = file_order(entry_of(array, "") for array in arrays)
        mine = aliases_of(entries, aliases)
        known = template.describes(entries, mine)
        self.template = template if known else HeaderTemplate(entries, mine)
        by_name = {array.name: array for array in arrays}
        self.arrays = [by_name[entry.name] for entry in entries]
        self._before = before
        self._draft: Draft | None = None

    @property
    def nbytes(self) -> int:
        """Its length."""
        return self.template.data_start + sum(array.nbytes for array in self.arrays)

    def write(
        self,
        storage: LocalStorage,
        folder: str,
        snapshot: Snapshot,
        hashes: HashAhead[int],
        *,
        tell: Tell,
    ) -> None:
        """Writes all but the header, as long as nothing speaks against it.

        Raises:
            StorageFullError, SaveError: The medium failed; nothing is left behind.
        """
        if self.arrays[0].nbytes <= _WAITED_NBYTES:
            hashes[self.arrays[0]]
        if self._is_wrong(hashes):
            return
        draft = storage.draft(folder, "shard", start=self.template.data_start, expected=self.nbytes)
        self._draft = draft
        for view in snapshot.runs(self.arrays):
            for piece in pieces_of(view):
                if self._is_wrong(hashes):
                    self.discard()
                    return
                draft.append(piece)
                tell("writing", len(piece))

    def _is_wrong(self, hashes: HashAhead[int]) -> bool:
        """Returns whether so much has stayed the same that it gets a shard of its own."""
        found = hashes.so_far(self.arrays)
        same = (a.nbytes for a, one in found.items() if self._before.get(a.name) == one.digest)
        return sum(same) >= MIN_RESTING_NBYTES

    def is_of(self, members: Sequence[TensorEntry]) -> bool:
        """Whether it is the shard of these."""
        return [entry.name for entry in members] == [array.name for array in self.arrays]

    def take(self) -> Draft | None:
        """Returns the file, written but for its header, and gives it away; None without one."""
        draft, self._draft = self._draft, None
        return draft

    def discard(self) -> None:
        """Removes what was written, unless it was given away."""
        if self._draft is not None:
            self._draft.discard()
            self._draft = None


def foresee(
    copy: ItemCopy, changed: Iterable[HeaderTemplate], before: Mapping[str, str]
) -> Iterator[ForeseenShard]:
    """Yields the shards of an item that it is worth beginning with.

    Args:
        copy: The item.
        changed: The shards that held what had changed in the save before this one.
        before: Digests of the item's tensors in the parent checkpoint, by name.
    """
    arrays = {array.name: array for array in copy.arrays}
    for template in changed:
        members = [arrays[e.name] for e in template.tensors if e.name in arrays]
        whole = len(members) == len(template.tensors) and not any(a.stable for a in members)
        if whole and sum(array.nbytes for array in members) >= _MIN_NBYTES:
            yield ForeseenShard(members, copy.aliases, template, before)


def entry_of(array: ArrayCopy, digest: str) -> TensorEntry:
    """Returns an array as a shard's header tells of it."""
    return TensorEntry(array.name, array.dtype, array.shape, digest, array.nbytes)


def pieces_of(view: memoryview) -> Iterator[memoryview]:
    """Yields parts to write one after another: large, and small enough to hear of progress."""
    for begin in range(0, len(view), _PIECE_NBYTES):
        yield view[begin : begin + _PIECE_NBYTES]
