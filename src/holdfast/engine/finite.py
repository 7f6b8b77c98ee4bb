"""Whether floats are finite, from their stored bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

#: Stored dtype to (integer type of the same width, mask of the exponent): a value is not finite
#: when all these bits are set. float8_e4m3fn has no infinity, and one NaN but for its sign.
_EXPONENTS: Final[Mapping[str, tuple[str, int]]] = {
    "BF16": ("<u2", 0x7F80),
    "F8_E5M2": ("u1", 0x7C),
    "F8_E4M3": ("u1", 0x7F),
}
_NATIVE: Final[Mapping[str, str]] = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "C64": "<f4"}
#: What is stored as raw bytes, by its owner's name. Floats and parts of complex numbers:
_RAW: Final[Mapping[str, str]] = {"complex128": "<f8", "complex32": "<f2"}
#: Formats of one byte without infinities: the one byte that is NaN
#: (OCP Microscaling Formats 1.0, section 5.4.1; arXiv:2206.02915, section 2).
_NAN_BYTE: Final[Mapping[str, int]] = {
    "float8_e4m3fnuz": 0x80,
    "float8_e5m2fnuz": 0x80,
    "float8_e8m0fnu": 0xFF,
}
_PIECE_NBYTES: Final = 1 << 20


def all_finite(dtype: str, data: memoryview, *, numbers: str = "") -> bool:
    """Returns whether every value is finite; True for dtypes that hold no floats.

    Args:
        dtype: safetensors dtype.
        data: The stored bytes; looked at in pieces that fit the processor's cache.
        numbers: Where `dtype` is that of raw bytes, what they are: a dtype of torch or numpy.
            Structured ones are not looked into.
    """
    kind = dtype if dtype != "U8" else numbers
    piece_nbytes = _PIECE_NBYTES - _PIECE_NBYTES % (_item_nbytes(kind) or 1)
    pieces = (data[begin : begin + piece_nbytes] for begin in range(0, len(data), piece_nbytes))
    return all(_piece_is_finite(kind, piece) for piece in pieces)


def _item_nbytes(kind: str) -> int:
    float_type = _float_type(kind)
    return float_type.itemsize if float_type is not None else 1


def _float_type(kind: str) -> np.dtype[np.generic] | None:
    """Returns numpy's type for the numbers, or the parts of them; None where numpy has none."""
    name = _NATIVE.get(kind) or _RAW.get(kind) or kind
    # numpy's own names say the byte order first: anything else is no dtype of numpy.
    if name[:1] not in ("<", ">", "=") or name[1:2] not in ("f", "c"):
        return None
    return np.dtype(name)


def _piece_is_finite(kind: str, piece: memoryview) -> bool:
    float_type = _float_type(kind)
    if float_type is not None:
        return bool(np.isfinite(np.frombuffer(piece, dtype=float_type)).all())
    if kind in _NAN_BYTE:
        return _NAN_BYTE[kind] not in piece.cast("B").tobytes()
    if kind in _EXPONENTS:
        integer, exponent = _EXPONENTS[kind]
        bits = np.frombuffer(piece, dtype=integer)
        return not bool(((bits & exponent) == exponent).any())
    return True
