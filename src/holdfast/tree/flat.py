"""What a flattened state is: a skeleton, live arrays, and an outline of these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from holdfast.frameworks import JSON, Leaf
from holdfast.tree.copying import prepare_copy


@dataclass(frozen=True, slots=True, eq=False)
class ArrayOutline:
    """What is known of an array without its values. Two are equal when they are one object.

    Attributes:
        name: Its name within its item.
        dtype: Stored dtype, a safetensors name.
        shape: Stored shape.
        nbytes: Stored bytes.
        stable: Whether its owner says that training leaves it as it is.
        parameter: Whether training changes it by gradients.
        numbers: The dtype of what its owner sees, in the owner's words; "" where unknown.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    stable: bool
    parameter: bool
    numbers: str

    def resembles(self, other: ArrayOutline) -> bool:
        """Whether everything in the two is the same."""
        return (
            self.name == other.name
            and self.dtype == other.dtype
            and self.shape == other.shape
            and self.nbytes == other.nbytes
            and self.stable == other.stable
            and self.parameter == other.parameter
            and self.numbers == other.numbers
        )


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Outline:
    """What stays the same from one save to the next while the structure of a state does.

    It is the very same object then, so what is derived from it can be kept by its identity.

    Attributes:
        arrays: In the order of `Flat.leaves`.
        aliases: As in `Flat`.
        nbytes: Bytes of all arrays, each counted once.
    """

    arrays: tuple[ArrayOutline, ...]
    aliases: Mapping[str, str]
    nbytes: int

    def resembles(self, other: Outline) -> bool:
        """Whether everything in the two is the same, and in the same order."""
        return (
            len(self.arrays) == len(other.arrays)
            and list(self.aliases.items()) == list(other.aliases.items())
            and all(map(ArrayOutline.resembles, self.arrays, other.arrays))
        )


@dataclass(frozen=True, slots=True)
class Flat:
    """A state in two parts.

    Attributes:
        skeleton: Strict JSON with a node in the place of each array; a copy, as of `flatten`.
            Parts of it are shared with the skeletons of other moments, and never changed.
        leaves: Array name to live array; arrays that are the same memory are here once, under
            the first path.
        aliases: The name that another path to such an array would have had, to its stored name.
        outline: All that is known of the arrays but their values.
    """

    skeleton: JSON
    leaves: Mapping[str, Leaf]
    aliases: Mapping[str, str]
    outline: Outline

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, each counted once."""
        return self.outline.nbytes

    def copy_into(self, buffers: Mapping[str, memoryview]) -> None:
        """Copies every array into its buffer; on return nothing refers to the live memory.

        Args:
            buffers: Array name to writable bytes, `Leaf.nbytes` of them.

        Raises:
            ConfigError: A buffer is missing, read-only or of another size.
        """
        prepare_copy(self.leaves, buffers)(self.leaves).wait()


def outline_array(name: str, leaf: Leaf) -> ArrayOutline:
    """Returns the outline of one live array under its stored name."""
    node = leaf.node(name)
    numbers = node.get("dtype")
    return ArrayOutline(
        name,
        leaf.dtype,
        leaf.shape,
        leaf.nbytes,
        leaf.stable,
        bool(node.get("parameter")) and not leaf.stable,
        numbers if isinstance(numbers, str) else "",
    )


def outline_all(leaves: Mapping[str, Leaf], aliases: Mapping[str, str]) -> Outline:
    """Returns the outline of a state's arrays."""
    arrays = tuple(outline_array(name, leaf) for name, leaf in leaves.items())
    return Outline(arrays, aliases, sum(array.nbytes for array in arrays))
