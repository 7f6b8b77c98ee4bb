"""What the golden store holds: every dtype, every kind of node, and a small training."""

from __future__ import annotations

import enum
from collections import Counter, OrderedDict, namedtuple
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import torch

Point = namedtuple("Point", ["x", "y"])


class Color(enum.Enum):
    RED = 1
    GREEN = "g"


NUMPY_DTYPES = [
    "<f8", "<f4", "<f2", "<c8", "<c16", "<i8", "<i4", "<i2", "|i1", "<u8", "<u4", "<u2", "|u1",
    "|b1", ">f8", ">i4", ">c8", "<M8[ns]", "<m8[us]", ">M8[D]", "|S5", "<U3", ">U2", "|V6",
]  # fmt: skip
TORCH_DTYPES = [
    "float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "complex64",
    "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool", "complex128",
    "complex32", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2",
]  # fmt: skip


def dtypes():
    """Returns one array of each dtype, its bytes a pattern, and odd shapes."""
    pattern = (np.arange(4096) * 37 % 251).astype(np.uint8)
    state = {"numpy": {}, "torch": {}, "shapes": {}}
    for text in NUMPY_DTYPES:
        dtype = np.dtype(text)
        raw = pattern[: 6 * dtype.itemsize]
        state["numpy"][text] = (raw & 1 if text == "|b1" else raw).view(dtype).reshape(2, 3)
    for text in ("<U3", ">U2"):
        state["numpy"][text] = np.array([["a", "bc", "ä"], ["", "z", "\u2028"]]).astype(text)
    fields = np.dtype([("a", "<i2"), ("b", ">f8", (2,)), ("c", [("d", "|u1")])])
    state["numpy"]["fields"] = pattern[: 3 * fields.itemsize].view(fields)
    for name in TORCH_DTYPES:
        dtype = getattr(torch, name)
        raw = torch.from_numpy(pattern[: 6 * dtype.itemsize].copy())
        raw = raw & 1 if name == "bool" else raw
        state["torch"][name] = raw.view(dtype).reshape(2, 3)
    state["shapes"]["scalar"] = np.array(1.5, "<f4")
    state["shapes"]["empty"] = np.zeros((0, 3), "<f8")
    state["shapes"]["deep"] = np.arange(2, dtype="<i2").reshape((1,) * 30 + (2,))
    state["shapes"]["torch scalar"] = torch.tensor(2.5)
    return state


def nodes():
    """Returns one value of each kind of node of docs/format-state.md, and some deep ones."""
    versions = OrderedDict(a=1)
    versions._metadata = {"": {"version": 2}}
    shared = np.arange(4, dtype="<f4")
    return {
        "plain": [None, True, False, "a text", "", "\u00e9\U0001f600", 7, -7, 0],
        "integers": [2**53 - 1, 2**53, -(2**53), 2**255, 2**256, -(2**300)],
        "floats": [1.0, -0.0, 1e300, 5e-324, float("nan"), float("inf"), float("-inf"), 0.1],
        "containers": [[], {}, (), [[]], {"": {"": ()}}, ((),)],
        "mappings": {
            "keys": {0: "a", None: "b", True: "c", 1.5: "d", "1": "e"},
            "dollar": {"$": 1, "$ref": {"$": "int", "value": "5"}},
            "tuples": {(1, "a"): True, (): (None,), ((1,), 2): 3},
            "enums": {Color.RED: 1, Color.GREEN: 2},
            "ordered": OrderedDict(z=1, a=2),
            "with attributes": versions,
            "counter": Counter({30: 1, "a": 2}),
        },
        "point": Point(1, Point([1], {"a": np.ones(2, "<f8")})),
        "enums": [Color.RED, Color.GREEN],
        "bytes": [b"", b"ab", bytes(range(256)), bytes(5000)],
        "times": [
            datetime(2026, 1, 2, 3, 4, 5),  # noqa: DTZ001 - one without a time zone
            datetime(2026, 1, 2, tzinfo=UTC),
            datetime(2026, 1, 2, 3, 4, 5, 678, timezone(timedelta(hours=-5, minutes=-30))),
            datetime(2026, 1, 2, fold=1),  # noqa: DTZ001
        ],
        "scalars": [np.float32(1), np.bool_(True), np.int8(-1), np.datetime64("2026-01-02", "s")],
        "tied": {"one": shared, "other": [shared]},
    }


class Network(torch.nn.Module):
    """A network with a frozen part that fills a shard, tied weights, and a buffer."""

    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.Linear(128, 128, bias=False)
        self.encoder.weight.requires_grad_(False)
        self.embed = torch.nn.Linear(4, 6, bias=False)
        self.head = torch.nn.Linear(4, 6)
        self.head.weight = self.embed.weight
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))


def network():
    """Returns a network and its optimizer, the same each time."""
    torch.manual_seed(7)
    model = Network()
    trained = [p for p in model.parameters() if p.requires_grad]
    return model, torch.optim.AdamW(trained, lr=0.01)


def train(model, optimizer):
    """Takes one step."""
    optimizer.zero_grad()
    sum((p**2).sum() for p in model.parameters() if p.requires_grad).backward()
    optimizer.step()
    model.seen += 1
