"""The copy of a state that a save writes from: one arena, reused from save to save."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from holdfast.tree import Flat, Leaf

_ALIGNMENT: Final = 64
_HUGE_PAGE: Final = 2 << 20


@dataclass(frozen=True, slots=True)
class ArrayCopy:
    """One array of a snapshot: its name within its item, and its bytes.

    Attributes:
        numbers: The dtype of what its owner sees, in the owner's words; "" where unknown.
        stable: Whether its owner said that training leaves it as it is.
        parameter: Whether training changes it by gradients.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: memoryview
    stable: bool
    parameter: bool
    numbers: str = ""


@dataclass(frozen=True, slots=True)
class ItemCopy:
    """One item of a snapshot."""

    skeleton: Any
    arrays: tuple[ArrayCopy, ...]
    aliases: Mapping[str, str]

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return sum(len(array.data) for array in self.arrays)


class Snapshot:
    """A state at one moment; give it back with `release` once it is written."""

    def __init__(self, items: Mapping[str, ItemCopy], arena: mmap.mmap, pool: ArenaPool) -> None:
        self.items = items
        self._arena: mmap.mmap | None = arena
        self._pool = pool

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(item.nbytes for item in self.items.values())

    def release(self) -> None:
        """Gives the arena back; the bytes may change from now on."""
        if self._arena is not None:
            self.items = {}
            self._pool.give_back(self._arena)
            self._arena = None


class ArenaPool:
    """Memory for snapshots, kept between saves: fresh pages copy five times slower than used ones.

    Args:
        keep: How many arenas stay allocated between saves.
    """

    def __init__(self, *, keep: int = 2) -> None:
        self._keep = keep
        self._free: list[mmap.mmap] = []
        self._lock = threading.Lock()

    def take(self, flats: Mapping[str, Flat]) -> Snapshot:
        """Copies flattened items; on return the live arrays may change.

        Args:
            flats: Item name to its flattened state.
        """
        offsets: dict[tuple[str, str], tuple[int, int]] = {}
        end = 0
        for item, flat in flats.items():
            for name, leaf in flat.leaves.items():
                begin = -(-end // _ALIGNMENT) * _ALIGNMENT
                end = begin + leaf.nbytes
                offsets[item, name] = (begin, end)
        arena = self._borrow(end)
        view = memoryview(arena)
        items: dict[str, ItemCopy] = {}
        for item, flat in flats.items():
            buffers = {name: view[slice(*offsets[item, name])] for name in flat.leaves}
            flat.copy_into(buffers)
            arrays = tuple(
                _copied(name, leaf, buffers[name].toreadonly())
                for name, leaf in flat.leaves.items()
            )
            items[item] = ItemCopy(flat.skeleton, arrays, dict(flat.aliases))
        return Snapshot(items, arena, self)

    def give_back(self, arena: mmap.mmap) -> None:
        """Takes an arena back for the next snapshot."""
        with self._lock:
            if len(self._free) < self._keep:
                self._free.append(arena)

    def _borrow(self, nbytes: int) -> mmap.mmap:
        with self._lock:
            for index, arena in enumerate(self._free):
                # One that is far too large is let go: the state has shrunk.
                if nbytes <= len(arena) <= 2 * nbytes + _HUGE_PAGE:
                    return self._free.pop(index)
            self._free.clear()
        size = max(-(-nbytes // _HUGE_PAGE) * _HUGE_PAGE, mmap.PAGESIZE)
        arena = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            arena.madvise(mmap.MADV_HUGEPAGE)
        return arena


def _copied(name: str, leaf: Leaf, data: memoryview) -> ArrayCopy:
    node = leaf.node(name)
    numbers = node.get("dtype")
    return ArrayCopy(
        name,
        leaf.dtype,
        leaf.shape,
        data,
        leaf.stable,
        bool(node.get("parameter")) and not leaf.stable,
        numbers if isinstance(numbers, str) else "",
    )
