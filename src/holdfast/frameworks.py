"""The seam for frameworks: what an adapter offers, and how the core finds one.

The core never imports a framework. An adapter is an entry point of the group
``holdfast.frameworks``; its name is the module that it is for. It is loaded when that module is in
``sys.modules`` already, or when a load meets arrays of that framework.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, cast

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
Node: TypeAlias = dict[str, JSON]

GROUP = "holdfast.frameworks"

#: Stored dtypes and their bytes per element: those that ``safetensors`` 0.8 reads alike through
#: its torch and numpy faces (numpy has no BF16 and no F8).
STORED: Mapping[str, int] = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "C64": 8,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip


def stored_nbytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Returns the bytes of a stored array."""
    return STORED[dtype] * math.prod(shape)


class Leaf(Protocol):
    """An array in live memory, whatever it is called."""

    @property
    def dtype(self) -> str:
        """Stored dtype, a safetensors name (``"F32"``)."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Stored shape; raw bytes (see `StoredArray`) have one more dimension, the item size."""
        ...

    @property
    def nbytes(self) -> int:
        """Stored bytes."""
        ...

    @property
    def stable(self) -> bool:
        """A hint that the values are not going to change (a frozen parameter)."""
        ...

    @property
    def identity(self) -> Hashable:
        """Equal for two leaves that are the same memory, read in the same way."""
        ...

    @property
    def framework(self) -> str:
        """``"numpy"``, or the name of the framework whose `Framework.prepare_copy` copies it."""
        ...

    @property
    def fixed(self) -> bool:
        """Whether a stored array of another shape or dtype must not take its place."""
        ...

    @property
    def problem(self) -> str:
        """Why nothing can be written into it, or an empty string."""
        ...

    def node(self, name: str) -> Node:
        """Returns the skeleton's node for it under a name."""
        ...

    @property
    def on_host(self) -> bool:
        """Whether its bytes are in the host's memory."""
        ...

    @property
    def version(self) -> int | None:
        """A number that grows when its values are changed in place; None where nobody counts."""
        ...

    def pieces(self, nbytes: int) -> Iterator[memoryview]:
        """Yields its stored bytes one after another, in parts of `nbytes` at most.

        A part is good until the next one is asked for; together they need memory for one.
        """
        ...

    def memory(self) -> memoryview | None:
        """Returns its writable bytes where they lie as they are stored, else None."""
        ...

    def sink(self) -> Sink | None:
        """Returns what takes its bytes piece by piece where `memory` is None; else None."""
        ...

    def write(self, source: memoryview) -> None:
        """Copies stored bytes into it, whatever its strides and device."""
        ...

    def touched(self) -> None:
        """Tells the framework that `memory` was written to."""
        ...


class Sink(Protocol):
    """An array on a device that is filled piece by piece, through a little host memory.

    One thread at a time uses it; several sinks work at once.
    """

    @property
    def piece_nbytes(self) -> int:
        """How many bytes go into one piece."""
        ...

    @property
    def span(self) -> tuple[Hashable, int, int]:
        """The memory that it fills: device, first byte, one past the last."""
        ...

    def room(self, nbytes: int) -> memoryview:
        """Returns host memory for the next piece; waits until the device needs it no more."""
        ...

    def send(self, begin: int) -> None:
        """Starts to copy the piece in the last `room` to where it belongs, from byte `begin` on."""
        ...

    def finish(self) -> None:
        """Waits until the device has everything that was sent."""
        ...


class Sighting(Protocol):
    """How live arrays of one framework were when they were last looked at.

    It keeps none of them alive.
    """

    def changed(self, arrays: Sequence[Any]) -> list[int]:
        """Returns the indexes of arrays that a leaf may tell something else of by now.

        That is another identity, form or node: other memory, shape, strides or dtype, or another
        need of gradients. The arrays are of the same classes as those that were seen.
        """
        ...

    def renew(self, index: int, leaf: Leaf) -> None:
        """Takes note of another array at an index, or of another state of it."""
        ...

    def leaves(self, arrays: Sequence[Any]) -> Sequence[Leaf]:
        """Returns the leaves of arrays none of which has changed."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class StoredArray:
    """One place in a skeleton that stands for an array. Two places are never equal.

    Attributes:
        name: Name of the array in its item.
        dtype_stored: A safetensors name. What safetensors has no dtype for is U8: raw bytes.
        shape_stored: Its shape there, the extra dimension of raw bytes included.
        node: The skeleton's node.
        shape: Its shape as an array of its own dtype.
    """

    name: str
    dtype_stored: str
    shape_stored: tuple[int, ...]
    node: Mapping[str, JSON]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Stored bytes."""
        return stored_nbytes(self.dtype_stored, self.shape_stored)


class Transfer(Protocol):
    """A copy from a device to the host that is under way."""

    def fence(self) -> None:
        """Orders what the device is told to do from now on behind the copy."""
        ...

    def wait(self) -> None:
        """Waits until the bytes are there; from any thread."""
        ...


Prepare: TypeAlias = Callable[
    [Sequence[Leaf], Sequence[memoryview]], Callable[[Sequence[Leaf]], Transfer | None]
]
Build: TypeAlias = Callable[[StoredArray], object]


@dataclass(frozen=True, slots=True)
class Match:
    """How a stored state fits a live object; nothing has been changed yet.

    Attributes:
        problems: One line each, starting with a path.
        pairs: Stored arrays and the live ones that they go into.
        values: Stored arrays that `apply` builds new objects from.
        apply: Called last, with a function that builds the array of one of `values`.
        loaded: Names of what is going to be loaded.
    """

    problems: tuple[str, ...]
    pairs: tuple[tuple[StoredArray, Leaf], ...]
    values: tuple[StoredArray, ...]
    apply: Callable[[Build], None]
    loaded: tuple[str, ...]


class Framework(Protocol):
    """What the core asks of a framework."""

    @property
    def name(self) -> str:
        """The module that it is for."""
        ...

    def leaf(self, value: object, *, detached: bool = False) -> Leaf | None:
        """Returns an array of this framework as a leaf, or None when it is none.

        Args:
            value: Anything.
            detached: Whether it is stored as if it required no gradient; see `tree.Detached`.

        Raises:
            TreeError: It is one, and cannot be stored; the hint says what to do instead.
        """
        ...

    def sight(self, leaves: Sequence[Leaf]) -> Sighting:
        """Returns how the arrays of these leaves are now."""
        ...

    def prepare_copy(
        self, leaves: Sequence[Leaf], buffers: Sequence[memoryview]
    ) -> Callable[[Sequence[Leaf]], Transfer | None]:
        """Returns a function that copies leaves like these into writable host buffers.

        Args:
            leaves: Of the dtypes, shapes and devices to expect.
            buffers: `Leaf.nbytes` writable bytes for each.

        Returns:
            A function of as many such leaves, which copies in as few calls as the framework has
            for it, behind what their devices were told to do before. It returns None when the
            bytes are there, or the transfer that is under way.
        """
        ...

    def pin(self, memory: memoryview) -> Callable[[], None] | None:
        """Locks host memory in place for faster transfers; returns what unlocks it.

        None where there is no device that this would help.
        """
        ...

    def build(self, stored: StoredArray, buffer: memoryview, *, device: object) -> object:
        """Returns an array on writable, aligned bytes, without a copy where the device allows it.

        Raises:
            ConfigError: The installed framework lacks the dtype.
        """
        ...

    def cast(self, array: object, dtype: object) -> object:
        """Returns a floating array in another dtype, and any other array as it is.

        Args:
            array: An array of this framework.
            dtype: The dtype's name, or the framework's object for it.

        Raises:
            ConfigError: There is no such dtype.
        """
        ...

    def source(self, obj: object, *, path: str) -> Callable[[], object] | None:
        """Returns what reads the state of a model or optimizer, or None when it is neither.

        Called again it reads the state of that moment. In between it may remember what is likely
        to be the same, but keeps no array alive that the object has given up.

        Raises:
            TreeError: From the function that is returned: two of the names are one once the
                wrappers' prefixes are off.
        """
        ...

    def match(self, obj: object, stored: object, *, path: str, partial: bool) -> Match | None:
        """Returns how a stored tree fits a model or optimizer, or None when it is neither.

        Args:
            obj: The live object.
            stored: The tree, with a `StoredArray` in the place of each array.
            path: Where messages say that it is.
            partial: Whether what does not fit is left out instead of being a problem.
        """
        ...

    def rng_state(self) -> dict[str, object]:
        """Returns the state of all its global random number generators, as a storable tree."""
        ...

    def set_rng_state(self, state: Mapping[str, object]) -> None:
        """Sets what `rng_state` returned."""
        ...

    def write_file(self, state: object, path: Path) -> None:
        """Writes a state as a file of the framework's own kind, for its users to load.

        What has no plain form there is converted: arrays of other frameworks become its own,
        named tuples become tuples, enum members and times become text.

        Raises:
            ConfigError: Something in the state has no form in such a file.
            OSError, SaveError: It could not be written.
        """
        ...

    def read_file(self, path: Path) -> object:
        """Returns what a file of the framework's own kind holds; no code of the file runs.

        Raises:
            FormatError: It is damaged, or holds what cannot be read without running code.
            OSError: It could not be read.
        """
        ...

    def seeds(self) -> dict[str, object]:
        """Returns the seeds of its global random number generators, for reproducing a run."""
        ...

    def resting(self, obj: object) -> Literal["all", "parameters"] | None:
        """Returns which of an object's arrays change in optimizer steps alone, as far as known."""
        ...

    def before_updates(self, call: Callable[[], None]) -> Callable[[], None]:
        """Calls a function before each optimizer step, in the thread that takes it.

        Returns:
            What ends that.
        """
        ...

    def updates(self) -> int:
        """Returns how many optimizer steps this process took since the adapter was loaded.

        Two equal answers mean that the state is at a step boundary still.
        """
        ...


def present() -> tuple[Framework, ...]:
    """Returns the adapters of the frameworks that this process has imported already."""
    return tuple(_adapter(point) for name, point in _points().items() if name in sys.modules)


def load(name: str) -> Framework | None:
    """Returns the adapter of a framework, importing both; None where it is not installed."""
    point = _points().get(name)
    if point is None or (name not in sys.modules and importlib.util.find_spec(name) is None):
        return None
    return _adapter(point)


@functools.cache
def _points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


@functools.cache
def _adapter(point: EntryPoint) -> Framework:
    return cast(Framework, point.load())
