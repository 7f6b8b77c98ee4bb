"""numpy arrays as leaves, and back."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from holdfast.errors import ConfigError, TreeError
from holdfast.frameworks import Leaf, Node, stored_nbytes
from holdfast.tree.dtypes import describe, stored_of_numpy

Array = np.ndarray[Any, np.dtype[Any]]


class NumpyLeaf:
    """A numpy array, or long bytes, as a `Leaf`.

    Args:
        array: Any shape, strides and byte order.
        kind: ``"array"``, or ``"bytes"`` for a one-dimensional array of bytes that stands for them.

    Raises:
        TreeError: Its dtype cannot be stored.
    """

    framework = "numpy"
    stable = False
    fixed = False

    def __init__(self, array: Array, *, kind: str = "array") -> None:
        self.array = array
        self._kind = kind
        self._spec = describe(array.dtype)
        if array.dtype.itemsize == 0:
            raise TreeError(
                f"has the dtype {array.dtype}, whose elements have no bytes",
                hint="leave it out, or convert it with .astype(...)",
            )
        self.dtype, self.shape = stored_of_numpy(array.dtype, array.shape)
        self.nbytes = stored_nbytes(self.dtype, self.shape)

    @cached_property
    def identity(self) -> Hashable:
        """Same memory, shape, strides and dtype; an empty array is only ever itself."""
        if self.array.size == 0:
            return ("numpy", id(self.array))
        pointer = self.array.__array_interface__["data"][0]
        return ("numpy", pointer, self.array.shape, self.array.strides, str(self._spec), self._kind)

    @property
    def problem(self) -> str:
        """Why nothing can be written into it."""
        return "" if self.array.flags.writeable else "the live array is read-only"

    def node(self, name: str) -> Node:
        """Returns the skeleton's node for it under a name."""
        if self._kind == "bytes":
            return {"$": "bytes", "array": name, "shape": list(self.shape)}
        return {
            "$": "array", "array": name, "dtype": self._spec, "shape": list(self.array.shape),
        }  # fmt: skip

    def memory(self) -> memoryview | None:
        """Returns its writable bytes where it is contiguous, else None."""
        if not (self.array.flags.c_contiguous and self.array.flags.writeable):
            return None
        if self.array.size == 0:
            return memoryview(bytearray())
        return self.array.reshape(-1).view(np.uint8).data

    def write(self, source: memoryview) -> None:
        """Copies stored bytes into it."""
        _copy(self.array, np.ndarray(self.array.shape, self.array.dtype, source))

    def read_into(self, buffer: memoryview) -> None:
        """Copies its bytes into a writable buffer, in C order."""
        _copy(np.ndarray(self.array.shape, self.array.dtype, buffer), self.array)

    def touched(self) -> None:
        """Does nothing: numpy counts no versions."""


def _copy(target: Array, source: Array) -> None:
    # As plain bytes, so that padding, NaN payloads and foreign byte orders stay as they are.
    raw = f"V{source.dtype.itemsize}"
    np.copyto(target.view(raw), source.view(raw))


def copy_into(leaves: Sequence[Leaf], buffers: Sequence[memoryview]) -> None:
    """Copies numpy leaves into writable buffers of their size."""
    for leaf, buffer in zip(leaves, buffers, strict=True):
        if not isinstance(leaf, NumpyLeaf):
            raise TypeError(f"{type(leaf).__name__} is not a leaf of numpy")
        leaf.read_into(buffer)


def build(dtype: np.dtype[Any], shape: tuple[int, ...], buffer: memoryview) -> Array:
    """Returns an array on a buffer's bytes, without a copy."""
    return np.ndarray(shape, dtype, buffer)


def cast(array: Array, dtype: object) -> Array:
    """Returns a floating array in another dtype, any other as it is.

    Raises:
        ConfigError: numpy has no such dtype.
    """
    if array.dtype.kind != "f":
        return array
    name = str(dtype).removeprefix("torch.") if not isinstance(dtype, (type, np.dtype)) else dtype
    try:
        return array.astype(np.dtype(name), copy=False)
    except TypeError as error:
        raise ConfigError(
            f"numpy has no dtype {dtype}, and the item holds numpy arrays",
            hint="load it without dtype=, and convert the arrays afterwards",
        ) from error
