"""What cannot be stored is refused, all of it at once, by its path."""

from __future__ import annotations

import enum
import zoneinfo
from collections import defaultdict, namedtuple
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from holdfast import items, tree
from holdfast.errors import TreeError
from tests.state.samples import captured


class Flags(enum.Flag):
    A = 1
    B = 2


class MyDict(dict):
    pass


class MyArray(np.ndarray):
    pass


class Outer(namedtuple("Inner", ["a"])):
    __slots__ = ()


Odd = namedtuple("Odd", ["é"])
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")

REFUSED = [
    (object(), "<class 'object'> cannot be stored"),
    ({1}, "sorted list"),
    (frozenset(), "sorted list"),
    (bytearray(3), r"bytes\(it\)"),
    (1j, "real and the imaginary"),
    (Path("a"), "cannot be stored"),
    (len, "cannot be stored"),
    (defaultdict(int, a=1), r"store dict\(it\)"),
    (MyDict(a=1), r"store dict\(it\)"),
    (Flags.A | Flags.B, "no single member"),
    (Odd(1), r"store tuple\(it\)"),
    (Outer(1), r"store tuple\(it\)"),
    (datetime(2026, 1, 1, tzinfo=BERLIN), "astimezone"),
    ("\ud800", "lone surrogate"),
    (np.array([None]), "Python objects"),
    (np.array(["a"], np.dtypes.StringDType()), "Python objects"),
    (np.zeros(1, [("a", "O")]), "Python objects"),
    (np.zeros(2, "V0"), "no bytes"),
    (np.zeros(2).view(MyArray), "asarray"),
    (
        np.zeros(2, {"names": ["a", "b"], "formats": ["<i2", "<i2"], "offsets": [2, 0]}),
        "no portable",
    ),
    (torch.zeros(2, device="meta"), "meta device"),
    (torch.eye(2).to_sparse(), "to_dense"),
    (torch.eye(2).to_sparse_csr(), "to_dense"),
    (torch.nested.nested_tensor([torch.ones(1)]), "nested"),
    (torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "int_repr"),
    (torch.nn.parameter.UninitializedParameter(), "forward pass"),
    (torch.nn.Linear(1, 1), "state_dict"),
    (torch.Size([1]), r"store tuple\(it\)"),
    ({MyDict: 1}, "the key <class 'type'> cannot be stored"),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("value", "reason"), REFUSED, ids=lambda value: str(type(value)))
def test_what_would_not_come_back_as_itself_is_refused(value, reason):
    with pytest.raises(TreeError, match=reason) as caught:
        tree.flatten({"here": value}, path="item")
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith("item.here")


@pytest.mark.parametrize("name", ["", "__metadata__", "$"])
def test_names_that_arrays_cannot_have_are_refused(name):
    assert tree.flatten({name: 1}).leaves == {}
    with pytest.raises(TreeError, match="which arrays cannot have"):
        tree.flatten({name: np.zeros(1)})


def test_all_problems_are_listed_with_their_paths():
    state = {
        "param_groups": [{"foo": object(), "fine": 1}],
        "odd key": {1},
        3: {(1, "a"): len},
    }
    with pytest.raises(TreeError) as caught:
        tree.flatten(state, path="optimizer")
    assert [line.partition(": ")[0] for line in caught.value.problems] == [
        "optimizer.param_groups[0].foo",
        "optimizer['odd key']",
        "optimizer[3][(1, 'a')]",
    ]
    assert all(line in str(caught.value) for line in caught.value.problems)


def test_many_problems_are_counted_in_the_message_and_listed_in_the_error():
    with pytest.raises(TreeError, match="and 30 more") as caught:
        tree.flatten([object()] * 50)
    assert len(caught.value.problems) == 50


CLASHES = [
    ({"a": {"b": np.zeros(1)}, "a.b": np.ones(1)}, ["item.a.b", "item.a.b"]),
    ({1: np.zeros(1), "1": np.ones(1)}, ["item[1]", "item['1']"]),
    ({"value": np.zeros(1), "b": torch.ones(1)}, None),
]


@pytest.mark.parametrize(("state", "paths"), CLASHES)
def test_two_paths_under_one_name_are_both_named(state, paths):
    if paths is None:
        assert set(tree.flatten(state).leaves) == {"value", "b"}
        return
    with pytest.raises(TreeError) as caught:
        tree.flatten(state, path="item")
    assert all(path in caught.value.problems[0] for path in paths)


def test_a_tied_array_under_a_taken_name_is_refused_too():
    shared = np.zeros(2)
    with pytest.raises(TreeError, match="under the name '1'"):
        tree.flatten({1: shared, "1": shared})


def test_a_cycle_is_refused_and_a_shared_part_is_not():
    shared = [1]
    assert tree.flatten({"a": shared, "b": shared}).skeleton == {"a": [1], "b": [1]}
    shared.append({"back": shared})
    with pytest.raises(TreeError, match=r"state\[1\].back: contains itself"):
        tree.flatten(shared)


@pytest.mark.parametrize(("depth", "fits"), [(100, True), (101, False), (5000, False)])
def test_depth_is_bounded(depth, fits):
    state: list = []
    for _ in range(depth - 1):
        state = [state]
    if fits:
        assert tree.unflatten(tree.flatten(state).skeleton, {}) == state
    else:
        with pytest.raises(TreeError, match="deeper than 100"):
            tree.flatten(state)


UNRESTORABLE = [1, "text", (1, 2), None, object(), lambda: None]


@pytest.mark.parametrize("obj", UNRESTORABLE, ids=lambda obj: type(obj).__name__)
def test_what_cannot_be_restored_in_place_is_refused_as_an_item(obj):
    with pytest.raises(TreeError, match="cannot be restored in place") as caught:
        items.capture(obj, path="thing")
    assert "put it in a dict" in caught.value.hint
    assert caught.value.problems[0].startswith("thing: ")
    with pytest.raises(TreeError, match="cannot be restored in place"):
        items.plan_restore(obj, {}, path="thing")


def test_an_object_that_saves_but_does_not_load_is_refused():
    class Half:
        def state_dict(self):
            return {}

    with pytest.raises(TreeError, match="load_state_dict"):
        captured(Half())


def test_a_sparse_item_is_refused_by_its_own_name():
    with pytest.raises(TreeError, match="embedding: the tensor is sparse"):
        items.capture(torch.eye(2).to_sparse(), path="embedding")
