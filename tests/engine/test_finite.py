"""Finite or not, from the stored bytes, for every dtype that can hold something else."""

import numpy as np
import pytest
import torch

from holdfast import tree
from holdfast.engine import finite
from holdfast.engine.snapshot import Snapshots

FLOATS = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn,
    torch.float8_e5m2, torch.complex64, torch.complex128, torch.complex32,
    torch.float8_e4m3fnuz, torch.float8_e5m2fnuz,
]  # fmt: skip
SMALL = [dtype for dtype in FLOATS if dtype.itemsize <= 2]
#: No infinity in these.
NAN_ONLY = {torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz}


def is_finite(value):
    """Asks about an array as a save does: of its copy in a snapshot."""
    snapshot = Snapshots().take({"item": tree.flatten({"w": value})})
    (array,) = snapshot.items["item"].arrays
    return all(
        finite.all_finite(array.dtype, part, numbers=array.numbers) for part in array.parts()
    )


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_one_value_that_is_no_number_is_found_in_every_dtype_of_torch(dtype):
    wide = torch.complex128 if dtype.is_complex else torch.float64
    values = torch.linspace(-2, 2, 1000, dtype=torch.float64).to(wide)
    assert is_finite(values.to(dtype))
    bad = [float("nan")] if dtype in NAN_ONLY else [float("nan"), float("inf"), float("-inf")]
    for value in bad:
        for position in (0, 500, 999):
            changed = values.clone()
            changed[position] = value
            assert not is_finite(changed.to(dtype)), (value, position)


@pytest.mark.parametrize("dtype", SMALL, ids=str)
def test_every_byte_pattern_of_a_small_float_is_judged_as_torch_does(dtype):
    integer = torch.uint8 if dtype.itemsize == 1 else torch.int16
    count = 256**dtype.itemsize
    patterns = torch.arange(count).to(torch.int32)
    patterns = (patterns - (count // 2 if integer is torch.int16 else 0)).to(integer)
    values = patterns.view(dtype)
    expected = torch.isfinite(values.to(torch.float32))
    for pattern, wanted in list(zip(patterns, expected, strict=True))[:: 1 if count == 256 else 97]:
        assert is_finite(pattern.reshape(1).view(dtype)) == bool(wanted)


def test_an_exponent_alone_knows_nan_by_its_pattern():
    values = torch.tensor([0, 127, 254], dtype=torch.uint8).view(torch.float8_e8m0fnu)
    assert is_finite(values)
    assert not is_finite(torch.tensor([0, 255], dtype=torch.uint8).view(torch.float8_e8m0fnu))


@pytest.mark.parametrize(
    "dtype", ["<f8", "<f4", "<f2", ">f8", ">f4", ">f2", "<c8", "<c16", ">c16", "<f16", "<c32"]
)
def test_one_value_that_is_no_number_is_found_in_every_dtype_of_numpy(dtype):
    values = np.ones(1000, dtype)
    assert is_finite(values)
    for value in (np.nan, np.inf, -np.inf):
        values[999] = value
        assert not is_finite(values)


@pytest.mark.parametrize("dtype", ["<i8", "|u1", "|i1", "|b1", "<u2", "<M8[s]", "|S4", "<U2"])
def test_what_holds_no_floats_is_finite_whatever_its_bytes(dtype):
    assert is_finite(np.zeros(3, dtype))
    assert finite.all_finite("U8", memoryview(b"\xff" * 64), numbers=dtype)


@pytest.mark.parametrize("dtype", ["I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"])
def test_integers_are_finite_whatever_their_bytes(dtype):
    assert finite.all_finite(dtype, memoryview(b"\xff" * 64))


def test_a_value_behind_the_first_piece_is_found(monkeypatch):
    monkeypatch.setattr(finite, "PIECE_NBYTES", 96)
    for dtype in ("<f8", "<c16", "<f16", "<f2"):
        values = np.ones(99, dtype)
        assert is_finite(values)
        values[98] = np.nan
        assert not is_finite(values)


def test_no_values_are_finite():
    assert is_finite(np.zeros(0, "<f4"))
    assert is_finite(torch.zeros(0, dtype=torch.complex128))
