"""The format's page on states says what the code does: every example, name and dtype of it."""

from __future__ import annotations

import json
import re
from collections import Counter, OrderedDict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from holdfast import items, tree
from holdfast.frameworks import STORED
from tests.state.samples import LIVE, TORCH_DTYPES, Color, Point, check_same, stage

PAGE = (Path(__file__).parents[2] / "docs" / "format-state.md").read_text(encoding="utf-8")


def rows(first_cell):
    """Returns the rows of the table whose first heading is the one given, code marks taken off."""
    table = PAGE.split(f"| {first_cell} |", 1)[1].split("\n\n", 1)[0]
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines()[2:]]
    return [[cell.strip().strip("`").replace("\\|", "|") for cell in row] for row in cells]


def with_metadata():
    value = OrderedDict(a=1)
    value._metadata = {}
    return value


VALUES = {
    "None": None,
    "True": True,
    '"a text"': "a text",
    "7": 7,
    "-2**53": -(2**53),
    "2**256": 2**256,
    "1.0": 1.0,
    "-0.0": -0.0,
    "1e300": 1e300,
    "nan": float("nan"),
    "inf": float("inf"),
    "-inf": float("-inf"),
    '[1, "a"]': [1, "a"],
    '{"lr": 0.1, "": 2}': {"lr": 0.1, "": 2},
    "{}": {},
    '{0: "a", None: "b"}': {0: "a", None: "b"},
    '{"$": 1}': {"$": 1},
    '{(1, "a"): True}': {(1, "a"): True},
    "OrderedDict(a=1)": OrderedDict(a=1),
    "OrderedDict(a=1) with the attribute _metadata = {}": with_metadata(),
    "Counter({30: 1})": Counter({30: 1}),
    "(1, 2.5)": (1, 2.5),
    "()": (),
    "Point(x=1, y=2), a named tuple": Point(x=1, y=2),
    "Color.RED, an enum member": Color.RED,
    'b"ab"': b"ab",
    "datetime(2026, 1, 2, 3, 4, 5)": datetime(2026, 1, 2, 3, 4, 5),  # noqa: DTZ001
    "datetime(2026, 1, 2, tzinfo=timezone.utc)": datetime(2026, 1, 2, tzinfo=UTC),
    "datetime(2026, 1, 2, fold=1)": datetime(2026, 1, 2, fold=1),  # noqa: DTZ001
    "numpy.float32(1)": np.float32(1),
    "numpy.bool_(True)": np.bool_(True),
}

ARRAYS = {
    'numpy.zeros((2, 3), "<f8")': np.zeros((2, 3), "<f8"),
    'numpy.zeros((), ">i4")': np.zeros((), ">i4"),
    'numpy.zeros(2, "M8[ns]")': np.zeros(2, "M8[ns]"),
    'numpy.zeros(2, [("a", "<i2"), ("b", "|u1", (3,))])': np.zeros(
        2, [("a", "<i2"), ("b", "|u1", (3,))]
    ),
    "bytes(5000)": bytes(5000),
    "torch.zeros(2, 3)": torch.zeros(2, 3),
    "torch.zeros(2, requires_grad=True)": torch.zeros(2, requires_grad=True),
    "torch.nn.Parameter(torch.zeros(2))": torch.nn.Parameter(torch.zeros(2)),
}


class Owner(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(2))


def test_every_value_of_the_page_is_tried():
    assert [row[0] for row in rows("value")] == list(VALUES)
    in_module = "a parameter in the state of a module"
    assert [row[0] for row in rows("value at the key `w`")] == [*ARRAYS, in_module]


@pytest.mark.parametrize(("text", "node"), rows("value"))
def test_a_value_has_the_node_of_the_page(text, node):
    written = json.dumps(tree.flatten(VALUES[text]).skeleton, separators=(",", ":"))
    assert written == node
    check_same(tree.unflatten(json.loads(node), {}, like=LIVE), VALUES[text])


@pytest.mark.parametrize(("text", "node"), rows("value at the key `w`"))
def test_an_array_has_the_node_of_the_page(text, node):
    flat = tree.flatten({"w": ARRAYS[text]}) if text in ARRAYS else items.capture(Owner(), path="m")
    skeleton, buffers = stage(flat)
    assert json.dumps(skeleton["w"], separators=(",", ":")) == node
    if text in ARRAYS:
        check_same(tree.unflatten(skeleton, buffers), {"w": ARRAYS[text]})


def named(array):
    return {
        '["encoder"]["layer.0.weight"]': {"encoder": {"layer.0.weight": array}},
        '["state"][0]["exp_avg"]': {"state": {0: {"exp_avg": array}}},
        '["history"][2]': {"history": [1, 2, array]},
        '["point"].x': {"point": Point(array, 1)},
        "[None][True][1.5]": {None: {True: {1.5: array}}},
        '[(1, "a")]': {(1, "a"): array},
        "[Color.RED]": {Color.RED: array},
        "the item itself": array,
    }


@pytest.mark.parametrize(("path", "name"), rows("path"))
def test_an_array_has_the_name_of_the_page(path, name):
    assert list(tree.flatten(named(np.zeros(1))[path]).leaves) == [name]


def test_the_table_of_dtypes_is_complete():
    table = rows("torch")
    between = {f"{sign}int{bits}" for sign in ("", "u") for bits in range(1, 8)}
    ranged = [row for row in table if "to" in row[0]]
    assert [row[0] for row in ranged] == ["int1` to `int7`, `uint1` to `uint7"]
    listed = {name for row in table if "to" not in row[0] for name in [row[0]] if name} | between
    assert listed == {str(dtype).removeprefix("torch.") for dtype in TORCH_DTYPES}
    assert {row[2].partition("`")[0] for row in table} == set(STORED)


@pytest.mark.parametrize("row", rows("torch"), ids=lambda row: row[0] or row[1])
def test_a_dtype_is_stored_as_the_page_says(row):
    torch_name, numpy_name, stored, size = row
    raw = stored.endswith("raw")
    arrays = []
    if torch_name and "to" not in torch_name:
        arrays.append(torch.empty((2, 3), dtype=getattr(torch, torch_name)))
    elif torch_name:
        arrays += [torch.empty((2, 3), dtype=getattr(torch, name)) for name in ("int1", "uint7")]
    if numpy_name:
        arrays.append(np.zeros((2, 3), ">i2" if numpy_name == "any other" else numpy_name))
    for array in arrays:
        leaf = tree.flatten({"w": array}).leaves["w"]
        assert leaf.dtype == stored.partition("`")[0]
        itemsize = 2 if size == "of the dtype" else int(size)
        assert leaf.shape == ((2, 3, itemsize) if raw else (2, 3))
        assert leaf.nbytes == 6 * itemsize
