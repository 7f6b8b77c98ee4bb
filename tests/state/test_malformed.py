"""A skeleton that is not one gives a FormatError, whatever is in it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast import tree
from holdfast.errors import FormatError
from tests.state.samples import LIVE, Color, Level, Point, stage

TENSOR = {"$": "tensor", "array": "w", "dtype": "float32", "shape": [2]}
ARRAY = {"$": "array", "array": "w", "dtype": "<f4", "shape": [2]}

MALFORMED = [
    {"$": "nothing"},
    {"$": None},
    {"$": ["tuple"]},
    {"$": "tuple"},
    {"$": "tuple", "items": {}},
    {"$": "tuple", "items": [], "more": 1},
    {"$": "int", "value": 5},
    {"$": "int", "value": "05"},
    {"$": "int", "value": "1" * 101},
    {"$": "int", "value": "1_0"},
    {"$": "int", "value": "٣"},
    {"$": "float", "value": "nan"},
    2**53,
    float("nan"),
    float("inf"),
    "\ud800",
    {"\ud800": 1},
    {"$": "dict", "items": [[1]]},
    {"$": "dict", "items": [[[1], 2]]},
    {"$": "dict", "items": [[{"$": "dict", "items": []}, 2]]},
    {"$": "dict", "items": [[1, 2], [1, 3]]},
    {"$": "dict", "items": [[1, 2], [True, 3]]},
    {"$": "dict", "items": [], "attributes": {"a": 1}},
    {"$": "ordereddict", "items": [], "attributes": {"items": 1}},
    {"$": "ordereddict", "items": [], "attributes": {"__class__": 1}},
    {"$": "ordereddict", "items": [], "attributes": {"_m": ARRAY}},
    {"$": "ordereddict", "items": [], "attributes": []},
    {"$": "namedtuple", "name": "P", "fields": ["x"], "items": []},
    {"$": "namedtuple", "name": "P", "fields": ["x", "x"], "items": [1, 2]},
    {"$": "namedtuple", "name": "P", "fields": ["_x"], "items": [1]},
    {"$": "namedtuple", "name": "P", "fields": ["class"], "items": [1]},
    {"$": "namedtuple", "name": "P", "fields": ["x=print()"], "items": [1]},
    {"$": "namedtuple", "name": "P(", "fields": ["x"], "items": [1]},
    {"$": "namedtuple", "name": "P", "fields": [["x"]], "items": [1]},
    {"$": "enum", "type": "Color", "name": "BLUE"},
    {"$": "enum", "type": 3, "name": "RED"},
    {"$": "bytes", "base64": "!"},
    {"$": "bytes", "base64": "A" * 10000},
    {"$": "bytes", "base64": 3},
    {"$": "bytes", "array": "w", "shape": [1, 8]},
    {"$": "datetime", "value": "yesterday"},
    {"$": "datetime", "value": "20260101"},
    {"$": "datetime", "value": "2026-01-01T00:00:00", "fold": 2},
    {"$": "scalar", "dtype": "O", "base64": ""},
    {"$": "scalar", "dtype": "<f4", "base64": "AAA="},
    {**ARRAY, "dtype": "|O8"},
    {**ARRAY, "dtype": "f4"},
    {**ARRAY, "dtype": "=f4"},
    {**ARRAY, "dtype": "<f4,<f4"},
    {**ARRAY, "dtype": "<f3"},
    {**ARRAY, "dtype": "<M8[zz]"},
    {**ARRAY, "dtype": "|V0"},
    {**ARRAY, "dtype": [["a", "|O8"]]},
    {**ARRAY, "dtype": [["a"]]},
    {**ARRAY, "dtype": [["a", "<f4"], ["a", "<f4"]]},
    {**ARRAY, "dtype": [["a", "<f4", [-1]]]},
    {**ARRAY, "dtype": [["a", "<f4", [2**40]]]},
    {**ARRAY, "dtype": []},
    {**ARRAY, "shape": [-2]},
    {**ARRAY, "shape": [2.0]},
    {**ARRAY, "shape": [True, 2]},
    {**ARRAY, "shape": [2**59, 2**59]},
    {**ARRAY, "shape": [0, 2**59, 2**59]},
    {**ARRAY, "shape": [1] * 65},
    {**ARRAY, "shape": 2},
    {**ARRAY, "array": ""},
    {**ARRAY, "array": "__metadata__"},
    {**ARRAY, "array": ["w"]},
    {**ARRAY, "array": "elsewhere"},
    {**ARRAY, "order": "F"},
    {**TENSOR, "dtype": "object"},
    {**TENSOR, "dtype": "qint8"},
    {**TENSOR, "dtype": ["float32"]},
    {**TENSOR, "requires_grad": False},
    {**TENSOR, "dtype": "int32", "requires_grad": True},
    {**TENSOR, "shape": [3]},
]


@pytest.mark.parametrize("skeleton", MALFORMED, ids=lambda node: repr(node)[:60])
def test_a_node_that_is_none_is_refused(skeleton):
    with pytest.raises(FormatError):
        tree.unflatten({"a": skeleton}, {"w": bytearray(8)}, like=LIVE)


def test_an_array_of_two_shapes_is_refused():
    nodes = [{**TENSOR, "shape": [2, 1]}, TENSOR, {**TENSOR, "dtype": "int32"}]
    assert tree.array_nodes(nodes[1:2]).keys() == {"w"}
    for pair in (nodes[:2], nodes[1:]):
        with pytest.raises(FormatError, match="two dtypes or shapes"):
            tree.array_nodes(pair)


@pytest.mark.parametrize("depth", [101, 400, 100_000])
def test_depth_is_bounded_when_reading(depth):
    skeleton: list = []
    for _ in range(depth):
        skeleton = [skeleton]
    with pytest.raises(FormatError, match="deeper than 100"):
        tree.unflatten(skeleton, {})


def test_a_deep_key_is_refused():
    key: object = 1
    for _ in range(300):
        key = {"$": "tuple", "items": [key]}
    with pytest.raises(FormatError, match="deeper than 100"):
        tree.unflatten({"$": "dict", "items": [[key, 1]]}, {})


WORDS = st.sampled_from(
    ["$", "items", "value", "array", "dtype", "shape", "base64", "fields", "name", "type", "tensor",
     "dict", "tuple", "namedtuple", "enum", "bytes", "int", "float", "scalar", "datetime", "<f4",
     "float32", "counter", "ordereddict", "attributes", "requires_grad", "parameter", "w"]
)  # fmt: skip
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | WORDS,
    lambda part: (
        st.lists(part, max_size=4) | st.dictionaries(WORDS | st.text(max_size=3), part, max_size=5)
    ),
    max_leaves=20,
)


@settings(max_examples=400, deadline=None)
@given(JSONS)
def test_any_json_is_read_or_refused(skeleton):
    refused = None
    try:
        tree.unflatten(skeleton, {"w": bytearray(8)}, like=LIVE)
        tree.array_nodes(skeleton)
    except FormatError as error:
        refused = error
    assert refused is None or refused.hint


GOOD, BUFFERS = stage(
    tree.flatten(
        {
            "t": torch.nn.Parameter(torch.ones(2)),
            "a": np.ones(3, [("x", "<i2"), ("y", "|u1", (2,))]),
            "k": {(1, "a", None): Color.RED, 2**70: Level.LOW},
            "p": Point(b"abc", bytes(5000)),
            "s": np.float32(1),
        }
    )
)


def places(node, path=()):
    """Lists the paths of all values in a JSON value."""
    found = [path]
    if not isinstance(node, (dict, list)):
        return found
    for key, part in node.items() if isinstance(node, dict) else enumerate(node):
        found += places(part, (*path, key))
    return found


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(places(GOOD)[1:]), JSONS)
def test_a_good_skeleton_with_one_change_is_read_or_refused(place, other):
    skeleton = copy.deepcopy(GOOD)
    owner = skeleton
    for key in place[:-1]:
        owner = owner[key]
    owner[place[-1]] = other
    refused = None
    try:
        tree.unflatten(skeleton, {name: bytes(data) for name, data in BUFFERS.items()}, like=LIVE)
    except FormatError as error:
        refused = error
    assert refused is None or refused.hint
    assert tree.array_nodes(GOOD).keys() == BUFFERS.keys()
