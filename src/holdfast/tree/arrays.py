"""numpy arrays as leaves, and back."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from holdfast.errors import ConfigError, TreeError
from holdfast.frameworks import JSON, Leaf, Node, stored_nbytes
from holdfast.tree.dtypes import describe, stored_of_numpy

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class NumpyForm:
    """What a leaf knows of its array besides where it lies.

    Attributes:
        spec: Its dtype as JSON.
        dtype: Stored dtype.
        shape: Stored shape.
        nbytes: Stored bytes.
    """

    spec: JSON
    dtype: str
    shape: tuple[int, ...]
    nbytes: int

    @classmethod
    def of(cls, array: Array) -> NumpyForm:
        """Returns the form of an array.

        Raises:
            TreeError: Its dtype cannot be stored.
        """
        spec = describe(array.dtype)
        if array.dtype.itemsize == 0:
            raise TreeError(
                f"has the dtype {array.dtype}, whose elements have no bytes",
                hint="leave it out, or convert it with .astype(...)",
            )
        dtype, shape = stored_of_numpy(array.dtype, array.shape)
        return cls(spec, dtype, shape, stored_nbytes(dtype, shape))


class NumpyLeaf:
    """A numpy array, or long bytes, as a `Leaf`.

    Args:
        array: Any shape, strides and byte order.
        form: Of an array of this dtype and shape, where one is known.
        kind: ``"array"``, or ``"bytes"`` for a one-dimensional array of bytes that stands for them.

    Raises:
        TreeError: Its dtype cannot be stored.
    """

    framework = "numpy"
    stable = False
    fixed = False
    on_host = True
    version: int | None = None

    def __init__(self, array: Array, form: NumpyForm | None = None, *, kind: str = "array") -> None:
        self.array = array
        self.form = NumpyForm.of(array) if form is None else form
        self.dtype, self.shape, self.nbytes = self.form.dtype, self.form.shape, self.form.nbytes
        self._kind = kind

    @cached_property
    def identity(self) -> Hashable:
        """Same memory, shape, strides and dtype; an empty array is only ever itself."""
        if self.array.size == 0:
            return ("numpy", id(self.array))
        pointer = self.array.__array_interface__["data"][0]
        spec = str(self.form.spec)
        return ("numpy", pointer, self.array.shape, self.array.strides, spec, self._kind)

    @property
    def problem(self) -> str:
        """Why nothing can be written into it."""
        return "" if self.array.flags.writeable else "the live array is read-only"

    def node(self, name: str) -> Node:
        """Returns the skeleton's node for it under a name."""
        if self._kind == "bytes":
            return {"$": "bytes", "array": name, "shape": list(self.shape)}
        return {
            "$": "array",
            "array": name,
            "dtype": self.form.spec,
            "shape": list(self.array.shape),
        }

    def memory(self) -> memoryview | None:
        """Returns its writable bytes where it is contiguous, else None."""
        if not (self.array.flags.c_contiguous and self.array.flags.writeable):
            return None
        if self.array.size == 0:
            return memoryview(bytearray())
        return self.array.reshape(-1).view(np.uint8).data

    def sink(self) -> None:
        """Returns None: numpy's arrays are in the host's memory."""

    def write(self, source: memoryview) -> None:
        """Copies stored bytes into it."""
        _copy(self.array, np.ndarray(self.array.shape, self.array.dtype, source))

    def read_into(self, buffer: memoryview) -> None:
        """Copies its bytes into a writable buffer, in C order."""
        _copy(np.ndarray(self.array.shape, self.array.dtype, buffer), self.array)

    def pieces(self, nbytes: int) -> Iterator[memoryview]:
        """Yields its bytes in parts, in C order."""
        for part in _parts(self.array, nbytes):
            copy = np.empty(part.shape, part.dtype)
            _copy(copy, part)
            whole = copy.reshape(-1).view(np.uint8).data
            for begin in range(0, len(whole), nbytes):
                yield whole[begin : begin + nbytes]

    def touched(self) -> None:
        """Does nothing: numpy counts no versions."""


def _parts(array: Array, nbytes: int) -> Iterator[Array]:
    """Yields slices that make up an array in C order, of `nbytes` at most where it has axes."""
    if array.nbytes <= nbytes or array.ndim == 0:
        yield array
        return
    rows = max(1, len(array) * nbytes // array.nbytes)
    for begin in range(0, len(array), rows):
        part = array[begin : begin + rows]
        yield from _parts(part[0], nbytes) if len(part) == 1 else (part,)


def _copy(target: Array, source: Array) -> None:
    # As plain bytes, so that padding, NaN payloads and foreign byte orders stay as they are.
    raw = f"V{source.dtype.itemsize}"
    np.copyto(target.view(raw), source.view(raw))


def prepare_copy(
    leaves: Sequence[Leaf], buffers: Sequence[memoryview]
) -> Callable[[Sequence[Leaf]], None]:
    """Returns a function that copies numpy leaves; see `frameworks.Framework.prepare_copy`."""
    targets = [memoryview(buffer) for buffer in buffers]

    def copy(live: Sequence[Leaf]) -> None:
        for leaf, buffer in zip(live, targets, strict=True):
            if not isinstance(leaf, NumpyLeaf):
                raise TypeError(f"{type(leaf).__name__} is not a leaf of numpy")
            leaf.read_into(buffer)

    return copy


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
