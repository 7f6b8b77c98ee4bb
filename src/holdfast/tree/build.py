"""Arrays on buffers: the second half of reading a state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from holdfast import frameworks
from holdfast.errors import ConfigError, FormatError
from holdfast.frameworks import JSON, STORED, StoredArray
from holdfast.tree import arrays
from holdfast.tree.decode import decode
from holdfast.tree.dtypes import undescribe
from holdfast.tree.records import types_in

Buffer: TypeAlias = "bytes | bytearray | memoryview"

#: Which framework builds which kind of node.
_BUILDERS: Mapping[str, str] = {"tensor": "torch"}


def unflatten(
    skeleton: JSON,
    buffers: Mapping[str, Buffer],
    *,
    device: object = None,
    dtype: object = None,
    like: object = None,
) -> object:
    """Returns the state that `flatten` took apart, its arrays on the given buffers.

    Args:
        skeleton: As `flatten` made it.
        buffers: Array name to its stored bytes. The caller gives them away: arrays are built on
            them, without a copy where they are writable and aligned.
        device: Where tensors go, in the framework's words; None for the CPU.
        dtype: What floating arrays are cast to: a name such as ``"bfloat16"``, or the framework's
            own object. None keeps them as they were stored.
        like: A live tree whose enum and named tuple classes are used again.

    Returns:
        The state. Tensors are numpy arrays where their framework is not installed.

    Raises:
        FormatError: The skeleton is not one, or a buffer is missing or of the wrong size.
        ConfigError: A framework that is not installed is needed, or a dtype or device unknown.
    """
    builder = Builder(buffers, device=device, dtype=dtype)
    return decode(skeleton, builder, types=types_in(like))


class Builder:
    """Builds arrays on buffers; two places that are the same array get the same object.

    Args:
        buffers: As for `unflatten`.
        device: As for `unflatten`.
        dtype: As for `unflatten`.
    """

    def __init__(
        self, buffers: Mapping[str, Buffer], *, device: object = None, dtype: object = None
    ) -> None:
        self._buffers = buffers
        self._device = device
        self._dtype = dtype
        self._owned: dict[str, memoryview] = {}
        self._built: dict[str, object] = {}

    def __call__(self, stored: StoredArray) -> object:
        """Returns the array of one place.

        Raises:
            FormatError: Its buffer is missing or of the wrong size.
            ConfigError: See `unflatten`.
        """
        text = json.dumps(stored.node, sort_keys=True)
        if text not in self._built:
            self._built[text] = self._build(stored)
        return self._built[text]

    def _build(self, stored: StoredArray) -> object:
        node = stored.node
        kind = str(node["$"])
        buffer = self._memory(stored)
        if kind == "bytes":
            return buffer.tobytes()
        if kind == "array":
            array = arrays.build(undescribe(node["dtype"]), stored.shape, buffer)
            return array if self._dtype is None else arrays.cast(array, self._dtype)
        framework = frameworks.load(_BUILDERS[kind])
        if framework is None:
            return self._without_framework(stored, buffer)
        tensor = framework.build(stored, buffer, device=self._device)
        return tensor if self._dtype is None else framework.cast(tensor, self._dtype)

    def _without_framework(self, stored: StoredArray, buffer: memoryview) -> object:
        node = stored.node
        try:
            array = arrays.build(np.dtype(str(node["dtype"])), stored.shape, buffer)
        except TypeError as error:
            name = _BUILDERS[str(node["$"])]
            raise ConfigError(
                f"the array {node['array']!r} is a {name} tensor of the dtype {node['dtype']}, "
                f"which numpy has not, and {name} is not installed",
                hint=f"install {name}",
            ) from error
        return array if self._dtype is None else arrays.cast(array, self._dtype)

    def _memory(self, stored: StoredArray) -> memoryview:
        known = self._owned.get(stored.name)
        if known is None:
            if stored.name not in self._buffers:
                raise FormatError(
                    f"the array {stored.name!r} is in the skeleton, and its bytes are not there",
                    hint="verify the checkpoint",
                )
            size = STORED[stored.dtype_stored]
            known = writable(self._buffers[stored.name], alignment=size if size > 1 else 8)
            self._owned[stored.name] = known
        if known.nbytes != stored.nbytes:
            raise FormatError(
                f"the array {stored.name!r} has {known.nbytes} bytes instead of {stored.nbytes}",
                hint="verify the checkpoint",
            )
        return known


def writable(buffer: Buffer, *, alignment: int = 8) -> memoryview:
    """Returns bytes as a writable view that starts at a multiple of `alignment` bytes.

    It is the same memory where that is so already, else a copy.
    """
    view = memoryview(buffer).cast("B")
    if view.nbytes == 0:
        return memoryview(bytearray())
    if view.readonly or np.frombuffer(view, np.uint8).ctypes.data % alignment:
        aligned = np.empty(view.nbytes, np.uint8)
        aligned[:] = np.frombuffer(view, np.uint8)
        return aligned.data
    return view
