"""Stored floating-point numbers of any width as numpy arrays."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

_NATIVE: Final = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "C64": "<c8"}

#: safetensors dtypes that `decode` understands.
FLOATS: Final = frozenset({*_NATIVE, "BF16", "F8_E4M3", "F8_E5M2"})

#: E4M3 as in "FP8 Formats for Deep Learning" (arXiv:2209.05433), finite variant: 4 exponent bits
#: with a bias of 7, 3 bits of mantissa, no infinity, and NaN where all of them are set.
_E4M3_BIAS: Final = 7
_E4M3_NAN: Final = 0x7F


def decode(dtype: str, data: memoryview) -> np.ndarray[Any, np.dtype[Any]]:
    """Returns stored bytes as numbers, exactly.

    Args:
        dtype: One of `FLOATS`.
        data: Whole elements, as they are stored.

    Returns:
        A one-dimensional float64 array; complex128 for ``C64``.
    """
    if dtype in _NATIVE:
        wide = np.complex128 if dtype == "C64" else np.float64
        with np.errstate(invalid="ignore"):
            return np.frombuffer(data, dtype=_NATIVE[dtype]).astype(wide)
    if dtype == "BF16":
        # The upper half of a float32.
        bits = np.frombuffer(data, dtype="<u2").astype(np.uint32) << np.uint32(16)
        return _widened(bits.view(np.float32))
    if dtype == "F8_E5M2":
        # The upper half of a float16.
        halves = np.frombuffer(data, dtype=np.uint8).astype(np.uint16) << np.uint16(8)
        return _widened(halves.view(np.float16))
    return _E4M3[np.frombuffer(data, dtype=np.uint8)]


def _widened(numbers: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[Any]]:
    # Half of all NaNs are of the signalling kind, and widening one of them is no news.
    with np.errstate(invalid="ignore"):
        return numbers.astype(np.float64)


def _e4m3_values() -> np.ndarray[Any, np.dtype[np.float64]]:
    values = np.empty(256, np.float64)
    for code in range(256):
        exponent, mantissa = (code >> 3) & 0xF, code & 0x7
        if exponent:
            magnitude = (1 + mantissa / 8) * 2.0 ** (exponent - _E4M3_BIAS)
        else:
            magnitude = mantissa / 8 * 2.0 ** (1 - _E4M3_BIAS)
        if code & 0x7F == _E4M3_NAN:
            magnitude = np.nan
        values[code] = np.copysign(magnitude, -1.0 if code & 0x80 else 1.0)
    values.setflags(write=False)
    return values


_E4M3: Final = _e4m3_values()
