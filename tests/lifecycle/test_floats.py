"""Stored floats become the numbers that torch reads from the same bytes."""

import numpy as np
import pytest
import torch

from holdfast.lifecycle import floats

EVERY_BYTE = torch.arange(256, dtype=torch.uint8)
EVERY_PAIR = torch.arange(65536, dtype=torch.int32).to(torch.uint16)


@pytest.mark.parametrize(
    ("dtype", "kind", "codes"),
    [
        ("F8_E4M3", torch.float8_e4m3fn, EVERY_BYTE),
        ("F8_E5M2", torch.float8_e5m2, EVERY_BYTE),
        ("BF16", torch.bfloat16, EVERY_PAIR),
        ("F16", torch.float16, EVERY_PAIR),
    ],
)
def test_every_code_of_a_narrow_float_is_read_exactly(dtype, kind, codes):
    data = codes.numpy().tobytes()
    expected = codes.view(kind).double().numpy()
    np.testing.assert_array_equal(floats.decode(dtype, memoryview(data)), expected)


@pytest.mark.parametrize(("dtype", "kind"), [("F32", "<f4"), ("F64", "<f8"), ("C64", "<c8")])
def test_a_wide_float_is_read_as_it_is(dtype, kind):
    numbers = np.array([0.1, -2.5, np.inf, 1e-38], dtype=kind)
    np.testing.assert_array_equal(floats.decode(dtype, memoryview(numbers.tobytes())), numbers)


def test_every_float_dtype_of_the_format_is_known():
    assert set(floats.FLOATS) == {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "C64"}
