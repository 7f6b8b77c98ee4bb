"""The copy of a state that a save writes from: one arena, laid out as the shards are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from holdfast import frameworks
from holdfast.engine.arena import Arena, ArenaPool
from holdfast.engine.layout import (
    NO_ARRANGEMENT,
    NOTHING_LATE,
    Arrangement,
    ArrayCopy,
    Fitted,
    Late,
    Plan,
    array_copy,
    fit,
    lay_out,
)
from holdfast.engine.overlap import Overlap, Pair
from holdfast.errors import HoldfastError
from holdfast.tree import Flat, Leaf, Transfers, prepare_copy

#: What has no memory to be read in place is read in parts of this size.
_PIECE_NBYTES: Final = 8 << 20


@dataclass(frozen=True, slots=True, eq=False)
class ItemCopy:
    """One item of a snapshot."""

    skeleton: Any
    arrays: tuple[ArrayCopy, ...]
    aliases: Mapping[str, str]

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return sum(array.nbytes for array in self.arrays)


class Snapshot:
    """A state at one moment; give it back with `release` once it is written.

    Args:
        items: Its items.
        memory: Where the arrays lie that have a `begin`.
        transfers: Copies from devices that are under way.
        overlap: Copies that are taken beside the training.
        release: Gives the memory back.

    Attributes:
        items: Its items.
        overlap: Copies that are taken beside the training; whoever changes the live arrays joins
            it first.
    """

    def __init__(
        self,
        items: Mapping[str, ItemCopy],
        *,
        memory: memoryview | None = None,
        transfers: Transfers | None = None,
        overlap: Overlap | None = None,
        release: Callable[[], None] | None = None,
    ) -> None:
        self.items = items
        self.overlap = overlap
        self._memory = memory
        self._transfers = transfers
        self._release = release
        self._revoked: HoldfastError | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(item.nbytes for item in self.items.values())

    def wait(self) -> None:
        """Waits until all bytes are there: some copies end after `take` returns.

        Raises:
            BaseException: A copy failed.
        """
        if self.overlap is not None:
            self.overlap.wait()
        if self._transfers is not None:
            self._transfers.wait()

    def adopt(self, other: Snapshot) -> None:
        """Becomes another snapshot, in whose place nothing may be used any more.

        Its own memory must have been released.
        """
        self.items = other.items
        self._memory, other._memory = other._memory, None
        self._transfers = other._transfers
        self._release, other._release = other._release, None

    def revoke(self, error: HoldfastError) -> None:
        """Says that the bytes are no longer those of one moment: no checkpoint may come of them."""
        self._revoked = error

    def require_whole(self) -> None:
        """Raises the error of `revoke`."""
        if self._revoked is not None:
            raise self._revoked

    def runs(self, arrays: Iterable[ArrayCopy]) -> Iterator[memoryview]:
        """Yields the bytes of arrays in their order, neighbours in memory as one view."""
        begin = end = 0
        for array in arrays:
            if array.begin is None or self._memory is None:
                if self._memory is not None and end > begin:
                    yield self._memory[begin:end]
                begin = end = 0
                yield from array.parts()
            elif array.begin == end and end > begin:
                end += array.nbytes
            else:
                if end > begin:
                    yield self._memory[begin:end]
                begin, end = array.begin, array.begin + array.nbytes
        if self._memory is not None and end > begin:
            yield self._memory[begin:end]

    @property
    def released(self) -> bool:
        """Whether its memory was given back."""
        return self._release is None

    def release(self) -> None:
        """Gives the memory back; the bytes may change from now on."""
        release, self._release = self._release, None
        if release is None:
            return
        if self.overlap is not None:
            self.overlap.end()
        if self._transfers is not None:
            self._transfers.wait()
        self.items = {}
        self._memory = None
        release()


@dataclass(slots=True)
class Snapshots:
    """Takes snapshots, and keeps what the next one can use again.

    Args:
        pool: Where arenas come from and go to.
    """

    pool: ArenaPool = field(default_factory=ArenaPool)
    _plan: Plan | None = None

    def take(
        self,
        flats: Mapping[str, Flat],
        arrangement: Arrangement = NO_ARRANGEMENT,
        *,
        late: Mapping[str, Late] = NOTHING_LATE,
    ) -> Snapshot:
        """Copies flattened items; on return the live arrays may change, but for late ones.

        Args:
            flats: Item name to its flattened state.
            arrangement: How shards will hold them; whatever it says, all arrays are copied.
            late: Item name to which of its arrays are copied beside the training: these must not
                change before `Overlap.join`.
        """
        plan = self._plan
        if plan is None or not plan.holds_for(flats, arrangement, late):
            plan = self._plan = lay_out(flats, arrangement, late)
        arena = self.pool.borrow(plan.nbytes)
        try:
            return self._copy(plan, arena, flats)
        except BaseException:
            arena.discard()
            raise

    def _copy(self, plan: Plan, arena: Arena, flats: Mapping[str, Flat]) -> Snapshot:
        fitted = arena.fitted
        if not isinstance(fitted, Fitted) or fitted.plan is not plan:
            if any(not leaf.on_host for flat in flats.values() for leaf in flat.leaves.values()):
                for framework in frameworks.present():
                    arena.pin(framework.pin)
            fitted = arena.fitted = fit(plan, arena, flats)
        pairs: list[Pair] = []
        at_once: list[Transfers] = []
        behind: list[Transfers] = []
        late: list[Leaf] = []
        for item, flat in flats.items():
            at_once.append(fitted.copies[item](flat.leaves))
            buffers = fitted.buffers[item]
            if buffers:
                behind.append(_begin_late(flat, buffers, pairs))
                late.extend(flat.leaves[name] for name in buffers)
        # What devices are told to do next must not change what is still being copied.
        _joined(at_once).fence()
        items = {
            item: ItemCopy(flat.skeleton, fitted.arrays[item], flat.aliases)
            for item, flat in flats.items()
        }
        return Snapshot(
            items,
            memory=arena.view,
            transfers=_joined(at_once),
            overlap=Overlap(pairs, _joined(behind), late) if late else None,
            release=lambda: self.pool.give_back(arena),
        )


def _joined(several: Iterable[Transfers]) -> Transfers:
    return Transfers(tuple(part for some in several for part in some.parts))


def _begin_late(flat: Flat, buffers: Mapping[str, memoryview], pairs: list[Pair]) -> Transfers:
    """Begins copies from devices, and adds what lies in the host's memory to the pairs."""
    rest: dict[str, memoryview] = {}
    for name, buffer in buffers.items():
        leaf = flat.leaves[name]
        memory = leaf.memory() if leaf.on_host else None
        if memory is not None:
            pairs.append((buffer, memory))
        else:
            rest[name] = buffer
    if not rest:
        return Transfers()
    return prepare_copy({name: flat.leaves[name] for name in rest}, rest)(flat.leaves)


def live(flats: Mapping[str, Flat]) -> Snapshot:
    """Returns flattened items as they are, without a copy: nothing may change until it is written.

    What does not lie in the host's memory as it is stored is copied part by part as it is read.
    """
    items = {
        item: ItemCopy(
            flat.skeleton,
            tuple(
                array_copy(outline, None, _reader(flat.leaves[outline.name]))
                for outline in flat.outline.arrays
            ),
            flat.aliases,
        )
        for item, flat in flats.items()
    }
    return Snapshot(items)


def _reader(leaf: Leaf) -> Callable[[], Iterable[memoryview]]:
    def read() -> Iterable[memoryview]:
        memory = leaf.memory()
        return leaf.pieces(_PIECE_NBYTES) if memory is None else (memory.toreadonly(),)

    return read
