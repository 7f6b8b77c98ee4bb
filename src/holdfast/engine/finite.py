"""Whether floats are finite, from their stored bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

#: dtype to (integer type of the same width, mask of the exponent, value of a non-finite exponent).
#: float8_e4m3fn has no infinity, and one NaN: all bits set but the sign.
_EXPONENTS: Final[Mapping[str, tuple[str, int]]] = {
    "BF16": ("<u2", 0x7F80),
    "F8_E5M2": ("u1", 0x7C),
    "F8_E4M3": ("u1", 0x7F),
}
_NATIVE: Final[Mapping[str, str]] = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "C64": "<f4"}
_PIECE_NBYTES: Final = 1 << 20


def all_finite(dtype: str, data: memoryview) -> bool:
    """Returns whether every value is finite; True for dtypes that hold no floats.

    Args:
        dtype: safetensors dtype.
        data: The stored bytes; looked at in pieces that fit the processor's cache.
    """
    if dtype not in _NATIVE and dtype not in _EXPONENTS:
        return True
    pieces = (data[begin : begin + _PIECE_NBYTES] for begin in range(0, len(data), _PIECE_NBYTES))
    return all(_piece_is_finite(dtype, piece) for piece in pieces)


def _piece_is_finite(dtype: str, piece: memoryview) -> bool:
    if dtype in _NATIVE:
        values = np.frombuffer(piece, dtype=_NATIVE[dtype])
        return bool(np.isfinite(values).all())
    integer, exponent = _EXPONENTS[dtype]
    bits = np.frombuffer(piece, dtype=integer)
    return not bool(((bits & exponent) == exponent).any())
