"""Where the arrays of a snapshot lie in its arena: as the shards will hold them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from holdfast.engine.arena import Arena
from holdfast.engine.shardfile import ALIGNMENT, ITEM_NBYTES
from holdfast.tree import ArrayOutline, Copy, Flat, Outline, prepare_copy

#: Item name to the names of its arrays, in the groups and the order in which shards will hold
#: them, as far as that can be foreseen.
Arrangement = Mapping[str, tuple[tuple[str, ...], ...]]
NO_ARRANGEMENT: Final[Arrangement] = {}
#: Smaller arrays are always copied at once.
_LATE_NBYTES: Final = 64 << 10
#: Which of an item's arrays change in optimizer steps alone.
Late = Literal["all", "parameters"]
NOTHING_LATE: Final[Mapping[str, Late]] = {}


@dataclass(frozen=True, slots=True, eq=False)
class ArrayCopy:
    """One array of a snapshot: its name within its item, and its bytes.

    Attributes:
        nbytes: Its length.
        numbers: The dtype of what its owner sees, in the owner's words; "" where unknown.
        stable: Whether its owner said that training leaves it as it is.
        parameter: Whether training changes it by gradients.
        begin: Where its bytes lie in the snapshot's memory; None where they do not lie there.
        source: Yields its bytes in parts.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    stable: bool
    parameter: bool
    numbers: str
    begin: int | None
    source: Callable[[], Iterable[memoryview]]

    def parts(self) -> Iterable[memoryview]:
        """Yields its bytes, each part good until the next one is asked for."""
        return self.source()


@dataclass(slots=True, eq=False)
class Plan:
    """Where the arrays of items lie in an arena; good while outlines and arrangement are."""

    outlines: Mapping[str, Outline]
    arrangement: Arrangement
    late: Mapping[str, Late]
    begins: Mapping[str, Mapping[str, int]]
    nbytes: int

    def holds_for(
        self, flats: Mapping[str, Flat], arrangement: Arrangement, late: Mapping[str, Late]
    ) -> bool:
        """Whether nothing has changed that it rests on."""
        return (
            self.arrangement is arrangement
            and self.late == late
            and list(self.outlines) == list(flats)
            and all(flat.outline is self.outlines[item] for item, flat in flats.items())
        )


@dataclass(slots=True, eq=False)
class Fitted:
    """What is prepared for copying into an arena by a plan; each by item.

    Attributes:
        plan: The plan.
        arrays: The arrays as they lie there.
        copies: Copy what is copied at once.
        buffers: Array name to where it goes, of what is copied late.
    """

    plan: Plan
    arrays: Mapping[str, tuple[ArrayCopy, ...]]
    copies: Mapping[str, Copy]
    buffers: Mapping[str, Mapping[str, memoryview]]


def lay_out(flats: Mapping[str, Flat], arrangement: Arrangement, late: Mapping[str, Late]) -> Plan:
    """Returns where everything goes; arguments as `Snapshots.take`."""
    begins: dict[str, dict[str, int]] = {}
    end = 0
    for item, flat in flats.items():
        arrays = {array.name: array for array in flat.outline.arrays}
        begins[item] = {}
        for group in _groups(arrays, arrangement.get(item, ())):
            # As in a file, where the tensors begin at a multiple of this, too.
            end = -(-end // ALIGNMENT) * ALIGNMENT
            for array in group:
                begins[item][array.name] = end
                end += array.nbytes
    # The last piece of a group is written padded to the alignment.
    nbytes = -(-end // ALIGNMENT) * ALIGNMENT
    outlines = {item: flat.outline for item, flat in flats.items()}
    return Plan(outlines, arrangement, late, begins, nbytes)


def _groups(
    arrays: dict[str, ArrayOutline], foreseen: Iterable[tuple[str, ...]]
) -> Iterator[list[ArrayOutline]]:
    left = dict(arrays)
    for names in foreseen:
        yield _in_file_order(left.pop(name) for name in names if name in left)
    for stable in (True, False):
        yield _in_file_order(array for array in left.values() if array.stable == stable)


def _in_file_order(arrays: Iterable[ArrayOutline]) -> list[ArrayOutline]:
    return sorted(arrays, key=lambda array: (-ITEM_NBYTES[array.dtype], array.name))


def fit(plan: Plan, arena: Arena, flats: Mapping[str, Flat]) -> Fitted:
    """Prepares the copies of arrays like these into an arena."""
    arrays: dict[str, tuple[ArrayCopy, ...]] = {}
    copies: dict[str, Copy] = {}
    late: dict[str, dict[str, memoryview]] = {}
    for item, flat in flats.items():
        at_once: dict[str, memoryview] = {}
        late[item] = {}
        copied = []
        for outline in flat.outline.arrays:
            begin = plan.begins[item][outline.name]
            buffer = arena.view[begin : begin + outline.nbytes]
            into = late[item] if _is_late(outline, plan.late.get(item)) else at_once
            into[outline.name] = buffer
            part = (buffer.toreadonly(),)
            copied.append(array_copy(outline, begin, lambda part=part: part))  # type: ignore[misc]
        arrays[item] = tuple(copied)
        copies[item] = prepare_copy({name: flat.leaves[name] for name in at_once}, at_once)
    return Fitted(plan, arrays, copies, late)


def _is_late(outline: ArrayOutline, late: Late | None) -> bool:
    # What is small is copied in no time, and may be anything: a learning rate, a counter.
    if late is None or outline.nbytes < _LATE_NBYTES:
        return False
    return late == "all" or outline.parameter or outline.stable


def array_copy(
    outline: ArrayOutline, begin: int | None, source: Callable[[], Iterable[memoryview]]
) -> ArrayCopy:
    """Returns an array of a snapshot.

    Args:
        outline: What is known of it.
        begin: Where it lies in the snapshot's memory, if it does.
        source: Yields its bytes in parts.
    """
    return ArrayCopy(
        outline.name,
        outline.dtype,
        outline.shape,
        outline.nbytes,
        outline.stable,
        outline.parameter,
        outline.numbers,
        begin,
        source,
    )
