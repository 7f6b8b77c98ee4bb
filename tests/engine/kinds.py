"""Arrays of every kind that a state may hold, and their bytes."""

import warnings

import numpy as np
import torch


def bits(value):
    """Returns the bytes of an array as its framework gives them, element by element."""
    if isinstance(value, np.ndarray):
        return value.tobytes()
    plain = value.detach().resolve_conj().resolve_neg().contiguous()
    if plain.numel() == 0:
        return b""
    return bytes(plain.reshape(-1).view(torch.uint8).numpy())


def counting(shape, dtype=torch.float32):
    numbers = torch.arange(1, int(np.prod(shape, dtype=int)) + 1)
    return (numbers % 97).to(dtype).reshape(shape)


warnings.filterwarnings("ignore", "ComplexHalf support is experimental")
COMPLEX = torch.complex(counting((4, 3)), counting((4, 3)) * -2)
STATES = {
    "empty": torch.empty(0, 3),
    "no axes": torch.tensor(2.5),
    "one": torch.tensor([7], dtype=torch.int8),
    "bool": torch.tensor([True, False, True]),
    "odd bool": torch.tensor([2, 0, 255], dtype=torch.uint8).view(torch.bool),
    "float8": counting((5,)).to(torch.float8_e4m3fn),
    "float8 of another kind": counting((5,)).to(torch.float8_e5m2fnuz),
    "bfloat16": counting((3, 3), torch.bfloat16),
    "half": counting((7,), torch.float16),
    "nan with a payload": torch.tensor([0x7FA00001, -0x3FFFFF], dtype=torch.int32).view(
        torch.float32
    ),
    "complex64": COMPLEX,
    "complex128": COMPLEX.to(torch.complex128),
    "complex32": COMPLEX.to(torch.complex32),
    "conjugate": COMPLEX.conj(),
    "one conjugate": COMPLEX.to(torch.complex128)[0, 0].conj(),
    "negated": COMPLEX.conj().imag,
    "transposed": counting((4, 6)).T,
    "strided": counting((9, 9))[::2, 1::3],
    "expanded": torch.tensor([[1.0], [2.0]]).expand(2, 5),
    "channels last": counting((2, 3, 4, 5)).to(memory_format=torch.channels_last),
    "a slice of a larger one": counting((100,))[13:29],
    "a parameter": torch.nn.Parameter(counting((3,))),
    "big-endian": np.arange(5, dtype=">f8"),
    "numpy, transposed": np.arange(12, dtype="<i2").reshape(3, 4).T,
    "numpy, reversed": np.arange(5, dtype="<f4")[::-1],
    "numpy, read-only": np.broadcast_to(np.float32(3), (2, 2)),
    "numpy, no axes": np.array(1.5),
    "dates": np.array(["2025-01-01", "NaT"], "<M8[D]"),
    "text": np.array(["a", "long"], "<U4"),
}
