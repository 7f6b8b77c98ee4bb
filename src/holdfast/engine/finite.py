"""Whether floats are finite, from their stored bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

#: Stored dtype to the width of its numbers in bytes and the bits of plus infinity, from where on
#: nothing positive is finite. float8_e4m3fn has no infinity, and one NaN but for its sign.
_BEYOND: Final[Mapping[str, tuple[int, int]]] = {
    "F64": (8, 0x7FF0_0000_0000_0000),
    "F32": (4, 0x7F80_0000),
    "C64": (4, 0x7F80_0000),
    "F16": (2, 0x7C00),
    "BF16": (2, 0x7F80),
    "F8_E5M2": (1, 0x7C),
    "F8_E4M3": (1, 0x7F),
    # Stored as raw bytes, under their owner's name:
    "complex128": (8, 0x7FF0_0000_0000_0000),
    "complex32": (2, 0x7C00),
}
#: Formats of one byte without infinities: the one byte that is NaN
#: (OCP Microscaling Formats 1.0, section 5.4.1; arXiv:2206.02915, section 2).
_NAN_BYTE: Final[Mapping[str, int]] = {
    "float8_e4m3fnuz": 0x80,
    "float8_e5m2fnuz": 0x80,
    "float8_e8m0fnu": 0xFF,
}
#: A multiple of every width (16 bytes is the widest), and small enough for a core's cache.
PIECE_NBYTES: Final = 1 << 20

Check = Callable[[memoryview], bool]


def finite_check(dtype: str, *, numbers: str = "") -> Check | None:
    """Returns a function that tells whether every value in some stored bytes is finite.

    Args:
        dtype: safetensors dtype.
        numbers: Where `dtype` is that of raw bytes, what they are: a dtype of torch or numpy.
            Structured ones are not looked into.

    Returns:
        The function, for whole values; None for dtypes that hold no floats.
    """
    kind = dtype if dtype != "U8" else numbers
    if kind in _BEYOND:
        return _by_bits(*_BEYOND[kind])
    if kind in _NAN_BYTE:
        nan = _NAN_BYTE[kind]
        return lambda piece: not bool((np.frombuffer(piece, np.uint8) == nan).any())
    float_type = _numpy_type(kind)
    if float_type is None:
        return None
    return lambda piece: bool(np.isfinite(np.frombuffer(piece, float_type)).all())


def all_finite(dtype: str, data: memoryview, *, numbers: str = "") -> bool:
    """Returns whether every value is finite; arguments as `finite_check`, and the stored bytes."""
    check = finite_check(dtype, numbers=numbers)
    if check is None:
        return True
    return all(
        check(data[begin : begin + PIECE_NBYTES]) for begin in range(0, len(data), PIECE_NBYTES)
    )


def _by_bits(width: int, infinity: int) -> Check:
    """Returns the check for little-endian IEEE-like floats of a width.

    Their bits, read as integers, are ordered as their magnitudes: as signed ones nothing finite
    and positive reaches infinity, as unsigned ones nothing finite at all reaches minus infinity.
    Two maxima need no memory of their own, unlike `numpy.isfinite`, and run at cache speed.
    """
    signed, unsigned = np.dtype(f"<i{width}"), np.dtype(f"<u{width}")
    minus_infinity = infinity | 1 << (8 * width - 1)

    def check(piece: memoryview) -> bool:
        if not len(piece):
            return True
        return bool(
            np.frombuffer(piece, signed).max() < infinity
            and np.frombuffer(piece, unsigned).max() < minus_infinity
        )

    return check


def _numpy_type(kind: str) -> np.dtype[np.generic] | None:
    """Returns numpy's type for floats under their numpy name; None for anything else."""
    # numpy's own names say the byte order first: anything else is no dtype of numpy.
    if kind[:1] not in ("<", ">", "=") or kind[1:2] not in ("f", "c"):
        return None
    return np.dtype(kind)
