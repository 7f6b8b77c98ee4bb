"""What the tests of states share: a way there and back, strict equality, and odd values."""

from __future__ import annotations

import enum
import json
import math
import struct
from collections import Counter, OrderedDict, namedtuple
from typing import NamedTuple

import numpy as np
import torch

from holdfast import items, tree
from holdfast.errors import TreeError

Point = namedtuple("Point", ["x", "y"])


class Moments(NamedTuple):
    first: object
    second: object


class Color(enum.Enum):
    RED = 1
    GREEN = "g"


class Level(enum.IntEnum):
    LOW = 1


LIVE = [Color.RED, Level.LOW, Point(1, 2), Moments(1, 2)]

NUMPY_DTYPES = [
    "<f8", "<f4", "<f2", "<c8", "<c16", "<i8", "<i4", "<i2", "|i1", "<u8", "<u4", "<u2", "|u1",
    "|b1", ">f8", ">i4", ">c8", "<M8[ns]", "<M8[25s]", "<m8[us]", "<m8", ">M8[D]", "|S5", "<U3",
    ">U2", "|V6", np.longdouble().dtype.str,
]  # fmt: skip

STRUCTURED_DTYPES = [
    np.dtype([("a", "<i2"), ("b", ">f8", (2, 3))]),
    np.dtype([("a", "|i1"), ("b", "<f8")], align=True),
    np.dtype([("point", [("x", "<f4"), ("y", "<f4")]), ("day", "<M8[D]")]),
]

TORCH_DTYPES = sorted(
    {
        value
        for value in vars(torch).values()
        if isinstance(value, torch.dtype) and not str(value).startswith("torch.q")
    },
    key=str,
)


def stage(flat):
    """Returns a flat state as a reader would hand it out: strict JSON text, and its own bytes."""
    buffers = {name: bytearray(leaf.nbytes) for name, leaf in flat.leaves.items()}
    flat.copy_into({name: memoryview(buffer) for name, buffer in buffers.items()})
    return json.loads(json.dumps(flat.skeleton, allow_nan=False)), buffers


def described(flat):
    """Returns all that a flat state tells, as values that can be compared."""
    return {
        # As text: 1, true, 1.0 and -0.0 are told apart, and so is the order of keys.
        "skeleton": json.dumps(flat.skeleton, allow_nan=False),
        "leaves": [
            (
                name, leaf.framework, leaf.dtype, leaf.shape, leaf.nbytes, leaf.stable,
                leaf.fixed, leaf.identity, leaf.node(name),
            )
            for name, leaf in flat.leaves.items()
        ],
        "aliases": list(flat.aliases.items()),
        "rows": [
            (row.name, row.dtype, row.shape, row.nbytes, row.stable, row.parameter, row.numbers)
            for row in flat.outline.arrays
        ],
        "outline": (list(flat.outline.aliases.items()), flat.outline.nbytes, flat.nbytes),
        "bytes": {name: bytes(buffer) for name, buffer in stage(flat)[1].items()},
    }  # fmt: skip


def attempt(flatten):
    try:
        return flatten(), None
    except TreeError as error:
        return None, (error.message, error.problems)


def there_and_back(state, **options):
    skeleton, buffers = stage(tree.flatten(state))
    return tree.unflatten(skeleton, buffers, like=LIVE, **options)


def captured(obj, path="item"):
    return stage(items.capture(obj, path=path))


def restore(obj, stored, *, path="item", partial=False, in_place=True):
    """Restores as a reader does, and returns the plan."""
    skeleton, buffers = stored
    plan = items.plan_restore(obj, skeleton, path=path, partial=partial)
    assert set(plan.buffers) <= plan.needed <= set(buffers)
    staged = {}
    for name in plan.needed:
        if in_place and name in plan.buffers:
            plan.buffers[name][:] = buffers[name]
        else:
            staged[name] = bytearray(buffers[name])
    plan.finish(staged)
    return plan


def check_same(left, right, path="state"):
    """Asserts that two values are of one type and equal to the bit, all the way down."""
    assert type(left) is type(right), (path, type(left), type(right))
    if isinstance(left, torch.Tensor):
        assert left.dtype == right.dtype, path
        assert left.shape == right.shape, path
        assert left.requires_grad == right.requires_grad, path
        assert bits(left) == bits(right), path
    elif isinstance(left, (np.ndarray, np.generic)):
        assert left.dtype == right.dtype, path
        assert left.shape == right.shape, path
        assert left.tobytes() == right.tobytes(), path
    elif isinstance(left, dict):
        check_same(list(left), list(right), f"{path}.keys()")
        for (_, one), other in zip(left.items(), right.values(), strict=True):
            check_same(one, other, f"{path}[...]")
        if isinstance(left, (OrderedDict, Counter)):
            check_same(vars(left), vars(right), f"{path}.__dict__")
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right), path
        for index, (one, other) in enumerate(zip(left, right, strict=True)):
            check_same(one, other, f"{path}[{index}]")
    elif isinstance(left, float):
        same = struct.pack("d", left) == struct.pack("d", right)
        assert same or (math.isnan(left) and math.isnan(right)), (path, left, right)
    else:
        assert left == right, path


def bits(tensor):
    plain = tensor.detach().resolve_conj().resolve_neg().cpu()
    if plain.element_size() == 1:
        plain = plain.view(torch.uint8)
    return (
        torch.empty(plain.numel(), dtype=plain.dtype)
        .copy_(plain.reshape(-1))
        .view(torch.uint8)
        .numpy()
        .tobytes()
    )
