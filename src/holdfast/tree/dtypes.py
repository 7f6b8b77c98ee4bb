"""Which bytes stand for which dtype: safetensors names, torch names, numpy's descriptions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast

import numpy as np

from holdfast.errors import FormatError, TreeError
from holdfast.frameworks import JSON

#: A tensor's dtype to its stored dtype and item size. U8 under another name is raw bytes.
TENSOR: Mapping[str, tuple[str, int]] = {
    "float64": ("F64", 8), "float32": ("F32", 4), "float16": ("F16", 2), "bfloat16": ("BF16", 2),
    "float8_e4m3fn": ("F8_E4M3", 1), "float8_e5m2": ("F8_E5M2", 1), "complex64": ("C64", 8),
    "int64": ("I64", 8), "int32": ("I32", 4), "int16": ("I16", 2), "int8": ("I8", 1),
    "uint64": ("U64", 8), "uint32": ("U32", 4), "uint16": ("U16", 2), "uint8": ("U8", 1),
    "bool": ("BOOL", 1),
    "complex32": ("U8", 4), "complex128": ("U8", 16),
    "float8_e4m3fnuz": ("U8", 1), "float8_e5m2fnuz": ("U8", 1), "float8_e8m0fnu": ("U8", 1),
    "float4_e2m1fn_x2": ("U8", 1),
    "bits8": ("U8", 1), "bits16": ("U8", 2),
    "bits1x8": ("U8", 1), "bits2x4": ("U8", 1), "bits4x2": ("U8", 1),
    **{f"{sign}int{bits}": ("U8", 1) for sign in ("", "u") for bits in range(1, 8)},
}  # fmt: skip

_NUMPY: Mapping[str, str] = {
    "<f8": "F64", "<f4": "F32", "<f2": "F16", "<c8": "C64",
    "<i8": "I64", "<i4": "I32", "<i2": "I16", "|i1": "I8",
    "<u8": "U64", "<u4": "U32", "<u2": "U16", "|u1": "U8", "|b1": "BOOL",
}  # fmt: skip

MAX_DIMENSIONS = 64
MAX_NBYTES = 2**60

_SPEC = re.compile(r"[<>|](?:[biufcSUV][0-9]{1,9}|[mM]8(?:\[[0-9]{0,9}[A-Za-z]{1,7}\])?)")
_MAX_SPEC_DEPTH = 8


def stored_of_tensor(dtype: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """Returns the stored dtype and shape of a tensor; raises `KeyError` for an unknown dtype."""
    stored, size = TENSOR[dtype]
    return (stored, shape) if stored != "U8" or dtype == "uint8" else (stored, (*shape, size))


def stored_of_numpy(dtype: np.dtype, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """Returns the stored dtype and shape of a numpy array."""
    stored = _NUMPY.get(dtype.str) if dtype.names is None else None
    return (stored, shape) if stored is not None else ("U8", (*shape, dtype.itemsize))


def describe(dtype: np.dtype) -> JSON:
    """Returns a numpy dtype as JSON: its string, or its fields as ``[name, type, shape?]``.

    Raises:
        TreeError: It cannot be told in such words, or holds Python objects.
    """
    if dtype.hasobject or dtype.kind == "T":
        raise TreeError(
            f"has the dtype {dtype}, which holds Python objects",
            hint="convert it to numbers, bytes or fixed-width strings with .astype(...)",
        )
    try:
        spec = _plain(dtype.descr) if dtype.names is not None else dtype.str
        if undescribe(spec) == dtype:
            return spec
    except (FormatError, ValueError):
        # Answered below: whatever does not come back as itself is refused alike.
        spec = None
    raise TreeError(
        f"has the dtype {dtype}, which has no portable description",
        hint="store a plain view of it, for example .view('u2')",
    )


def _plain(value: object) -> JSON:
    """Returns `numpy.dtype.descr` with lists for tuples."""
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, (str, int)):
        return value
    raise ValueError(f"{value!r} in the description of a dtype")


def undescribe(spec: JSON, depth: int = 0) -> np.dtype:
    """Returns the numpy dtype that `describe` told.

    Raises:
        FormatError: It tells none, or one that holds Python objects.
    """
    try:
        if isinstance(spec, str) and _SPEC.fullmatch(spec):
            dtype = np.dtype(spec)
        elif isinstance(spec, list) and spec and depth < _MAX_SPEC_DEPTH:
            dtype = _structured(spec, depth)
        else:
            raise ValueError("no such type")
        if dtype.hasobject or (isinstance(spec, str) and dtype.str != spec):
            raise ValueError("not its own description")
    except (ValueError, TypeError, OverflowError) as error:
        raise FormatError(
            f"{str(spec)[:100]} does not describe a numpy dtype: {error}",
            hint="the skeleton is damaged, or was written by a newer version",
        ) from error
    return dtype


def _structured(fields: list[JSON], depth: int) -> np.dtype:
    names: list[str] = []
    formats: list[np.dtype] = []
    offsets: list[int] = []
    offset = 0
    for field in fields:
        match field:
            case [str(name), kind]:
                part = undescribe(kind, depth + 1)
            case [str(name), kind, shape]:
                part = undescribe(kind, depth + 1)
                part = np.dtype((part, read_shape(shape, part.itemsize)))
            case _:
                raise ValueError("a field is [name, type] or [name, type, shape]")
        # A field without a name is padding: its bytes count, and nobody sees them.
        if name:
            names.append(name)
            formats.append(part)
            offsets.append(offset)
        offset += part.itemsize
    if not names:
        raise ValueError("no field has a name")
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": offset})


def read_shape(value: JSON, itemsize: int) -> tuple[int, ...]:
    """Returns a shape from JSON: at most 64 dimensions, and a size that can be meant.

    Raises:
        FormatError: It is not a shape.
    """
    if isinstance(value, list) and len(value) <= MAX_DIMENSIONS:
        full = max(itemsize, 1)
        for size in value:
            if type(size) is not int or not 0 <= size < MAX_NBYTES:
                break
            # Zero dimensions do not excuse the others: numpy multiplies those that are left.
            full *= size or 1
        else:
            if full < MAX_NBYTES:
                return tuple(cast(list[int], value))
    raise FormatError(
        f"{str(value)[:100]} is not the shape of an array",
        hint="the skeleton is damaged, or was written by a newer version",
    )
