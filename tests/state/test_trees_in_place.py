"""Dicts and lists are brought to what was stored without becoming other objects."""

from __future__ import annotations

from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch

from holdfast import items
from tests.state.samples import LIVE, Color, Point, captured, check_same, restore


def test_nested_containers_and_arrays_keep_their_identity():
    live = {"a": {"n": 1, "w": torch.zeros(2)}, "l": [1, [np.zeros(3)]], "t": (torch.zeros(1), 5)}

    def parts():
        return [live["a"], live["a"]["w"], live["l"], live["l"][1], live["l"][1][0], live["t"][0]]

    before = list(map(id, parts()))
    saved = {"a": {"n": 2, "w": torch.ones(2)}, "l": [3, [np.ones(3)]], "t": (torch.ones(1), 6)}
    plan = restore(live, captured(saved))
    check_same(live, saved)
    assert list(map(id, parts())) == before
    assert plan.buffers.keys() == {"a.w", "l.1.0", "t.0"}


CHANGES = [
    ({"a": 1}, {"a": 1, "later": 2}),
    ({"a": 1, "b": {"c": [1]}}, {}),
    ({"l": [1, 2, 3]}, {"l": [9]}),
    ({"l": [1]}, {"l": [9, 8, np.zeros(2)]}),
    ({"x": {"y": 1}}, {"x": [1]}),
    ({"x": [np.ones(2)]}, {"x": None}),
    ({"w": np.ones(3)}, {"w": np.zeros(2)}),
    ({"w": np.ones(3)}, {"w": torch.zeros(3)}),
    ({"w": np.ones(3, "f4")}, {"w": np.zeros(3)}),
    ({"b": 1, "a": 2}, {"a": 2, "b": 1}),
    ({"c": Counter(a=2)}, {"c": Counter(a=5, b=1)}),
    ({"o": OrderedDict([(2, 1), (1, 2)])}, {"o": OrderedDict([(1, 1), (2, 2)])}),
    ({"p": Point(np.ones(1), Color.RED)}, {"p": Point(np.zeros(1), Color.GREEN)}),
    ({"p": Point(1, Color.RED)}, {"p": Point(2, Color.GREEN)}),
    ({"big": bytes(5000)}, {"big": b""}),
    ([1, {"a": np.ones(2)}], [{"a": 1}]),
]


@pytest.mark.parametrize(("saved", "live"), CHANGES, ids=str)
def test_the_live_tree_becomes_what_was_stored(saved, live):
    stored = captured(saved)
    restore(live, stored)
    check_same(live, saved)
    restore(live, stored)
    check_same(live, saved)


def test_a_reader_may_stage_everything():
    live = {"w": np.zeros(3), "v": np.zeros(2)}
    before = live["w"]
    saved = {"w": np.ones(3), "v": np.ones(3)}
    restore(live, captured(saved), in_place=False)
    check_same(live, saved)
    assert live["w"] is before


def test_arrays_tied_at_the_save_reach_every_place():
    shared = np.arange(3.0)
    stored = captured({"a": shared, "b": shared, "c": shared})
    live = {"a": np.zeros(3), "b": np.zeros(3)}
    parts = live["a"], live["b"]
    restore(live, stored)
    assert live["a"] is parts[0]
    assert live["b"] is parts[1]
    for name in "abc":
        assert live[name].tolist() == [0, 1, 2]
    live["c"][:] = 7
    assert live["a"].tolist() == live["b"].tolist() == [0, 1, 2]


def test_overlapping_live_arrays_never_share_a_buffer():
    base = np.zeros(6)
    live = {"all": base, "head": base[:3], "tail": base[4:]}
    saved = {"all": np.arange(6.0), "head": np.arange(3.0), "tail": np.arange(4.0, 6)}
    plan = restore(live, captured(saved))
    assert plan.buffers.keys() == {"all"}
    check_same(live, saved)
    assert live["head"].base is base


TRAINABLE = [
    ({"w": torch.ones(3, requires_grad=True)}, {"w": np.ones(3)}, "item.w"),
    ({"w": torch.ones(3, requires_grad=True)}, {"w": torch.ones(2)}, "item.w"),
    ({"w": [torch.nn.Parameter(torch.ones(3))]}, {"w": 1}, "item.w[0]"),
    ({"w": [torch.nn.Parameter(torch.ones(3))]}, {"w": []}, "item.w[0]"),
    ({"a": {"odd key": torch.nn.Parameter(torch.ones(3))}}, {}, "item.a['odd key']"),
]


@pytest.mark.parametrize(("live", "saved", "path"), TRAINABLE)
def test_a_tensor_that_an_optimizer_may_hold_is_never_replaced(live, saved, path):
    plan = items.plan_restore(live, captured(saved)[0], path="item")
    assert plan.problems
    assert all(problem.startswith(f"{path}: ") for problem in plan.problems)
    owner = live
    partial = restore(owner, captured(saved), partial=True)
    assert partial.problems == ()


def test_partial_takes_nothing_away():
    weight = torch.nn.Parameter(torch.zeros(2))
    live = {"keep": 1, "w": weight, "l": [1, 2, 3], "n": {"x": 0, "y": 0}}
    plan = restore(
        live, captured({"w": torch.ones(5), "l": [9], "n": {"x": 4, "v": np.ones(1)}}), partial=True
    )
    assert live["w"] is weight
    assert weight.tolist() == [0, 0]
    assert live["keep"] == 1
    assert live["l"] == [9, 2, 3]
    assert live["n"]["y"] == 0
    assert live["n"]["x"] == 4
    assert plan.loaded == ("n.v",)
    assert plan.needed == {"n.v"}


@pytest.mark.parametrize(
    ("live", "saved"), [({}, [1]), ([], {}), (OrderedDict(), {}), ({}, np.ones(1))], ids=str
)
def test_another_kind_of_container_is_a_problem(live, saved):
    plan = items.plan_restore(live, captured(saved)[0], path="item")
    assert len(plan.problems) == 1
    assert plan.problems[0].startswith("item: ")
    assert restore(live, captured(saved), partial=True).loaded == ()
    assert len(live) == 0


def test_live_classes_are_used_again():
    live = {"p": Point(0, 0), "c": Color.RED}
    restore(live, captured({"p": Point(1, 2), "c": Color.GREEN}))
    assert type(live["p"]) is Point
    assert live["c"] is Color.GREEN


class Machine:
    """Has enum members and named tuples in its state."""

    def __init__(self):
        self.state = {"at": Point(0, 0), "color": Color.RED, "w": np.zeros(2)}

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state


def test_the_classes_of_an_object_with_a_state_dict_are_used_again():
    saved, live = Machine(), Machine()
    saved.state = {"at": Point(3, 4), "color": Color.GREEN, "w": np.ones(2)}
    restore(live, captured(saved))
    check_same(live.state, saved.state)
    assert LIVE[0] is Color.RED
