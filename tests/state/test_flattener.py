"""A state that is flattened again and again is flattened as if it were the first time."""

from __future__ import annotations

import gc
import json
import weakref
from collections import Counter, OrderedDict
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast import tree
from holdfast.errors import TreeError
from tests.state.samples import Color, Level, Moments, Point, attempt, described, stage

#: So often a state has been flattened before something in it changes: what is remembered is
#: remembered by then.
OFTEN = 3


def check_like_new(flattener, state):
    """Asserts that a flattener gives what a fresh walk gives, and returns it."""
    again, problem = attempt(lambda: flattener.flatten(state))
    fresh, expected = attempt(lambda: tree.flatten(state, path="item"))
    assert problem == expected
    if fresh is not None:
        assert described(again) == described(fresh)
    return again


def experienced(state):
    """Returns a flattener that knows a state well."""
    flattener = tree.Flattener(path="item")
    for _ in range(OFTEN):
        check_like_new(flattener, state)
    return flattener


# ------------------------------------------------------------------- any state and any change

SCALARS = st.sampled_from(
    [
        None, True, False, 0, 1, 1.0, 0.0, -0.0, float("nan"), float("inf"), 2**60, 300, "a", "",
        "\ud800", b"x", bytes(5000), b"y" * 5000, Color.RED, Color.GREEN, Level.LOW,
        np.float64(1.5), np.float64(2.5), np.bool_(True), datetime(2026, 1, 1, tzinfo=UTC),
        object(), {1, 2},
    ]
)  # fmt: skip
ARRAYS = st.sampled_from(
    [
        lambda: torch.arange(4.0),
        lambda: torch.arange(4),
        lambda: torch.zeros(2, 2),
        lambda: torch.zeros(0),
        lambda: torch.ones(4, dtype=torch.complex64),
        lambda: torch.zeros(4, dtype=torch.uint8),
        lambda: torch.ones(4, requires_grad=True),
        lambda: torch.nn.Parameter(torch.ones(4)),
        lambda: torch.nn.Parameter(torch.ones(4), requires_grad=False),
        lambda: torch.eye(2).to_sparse(),
        lambda: np.arange(4.0),
        lambda: np.arange(4, dtype=">i4"),
        lambda: np.zeros((2, 2)),
        lambda: np.zeros(0),
        lambda: np.zeros(2, [("a", "<i2"), ("b", "<f8")]),
    ]
).map(lambda make: make())
KEYS = st.sampled_from(["a", "b", "a.b", "$", "", 0, 1, True, 1.0, (1, "a"), Color.RED, None])
STATES = st.recursive(
    SCALARS | ARRAYS | ARRAYS,
    lambda part: (
        st.lists(part, max_size=3)
        | st.lists(part, max_size=3).map(tuple)
        | st.dictionaries(KEYS, part, max_size=4)
        | st.dictionaries(KEYS, part, max_size=3).map(OrderedDict)
        | st.dictionaries(KEYS, part, max_size=2).map(Counter)
        | st.builds(Point, part, part)
        | st.builds(Moments, part, part)
    ),
    max_leaves=10,
)


def inside(state):
    """Returns all containers that can be changed, and all arrays, of a state."""
    containers, found, todo = [], [], [state]
    while todo:
        value = todo.pop()
        if isinstance(value, (torch.Tensor, np.ndarray)):
            found.append(value)
        elif isinstance(value, (dict, list, tuple)) and not isinstance(value, Color):
            todo.extend(value.values() if isinstance(value, dict) else value)
            if not isinstance(value, tuple):
                containers.append(value)
    return containers, found


def put(container, at, value):
    if isinstance(container, list):
        container.insert(at % (len(container) + 1), value)
    else:
        key = list(container)[at % len(container)] if container and at % 2 else f"new {at}"
        container[key] = value


def take(container, at):
    if container:
        place = at % len(container)
        container.pop(place if isinstance(container, list) else list(container)[place])


def replace(container, at, value):
    if container:
        place = at % len(container)
        container[place if isinstance(container, list) else list(container)[place]] = value


def reorder(container, at):
    if container:
        take_out = list(container)[at % len(container)]
        if isinstance(container, list):
            container.reverse()
        else:
            container[take_out] = container.pop(take_out)


def negate(array):
    array.data = torch._neg_view(array.data)


def disturb(array, at):
    """Changes an array without making it another object."""
    if isinstance(array, np.ndarray):
        array.shape = (array.size,) if array.ndim > 1 else (1, array.size)
    elif array.layout is torch.strided and not (array.is_leaf and array.dtype == torch.bool):
        changes = [
            array.data.zero_,
            lambda: setattr(array, "data", array.data.clone()),
            lambda: setattr(array, "data", torch.cat([array.data.reshape(-1)] * 2)),
            lambda: setattr(array, "data", array.data.conj()),
            lambda: setattr(array, "data", array.data.unsqueeze(0)),
            lambda: array.is_floating_point() and negate(array),
            lambda: array.is_floating_point() and array.requires_grad_(not array.requires_grad),
        ]
        with torch.no_grad():
            changes[at % len(changes)]()


EDITS = st.tuples(
    st.sampled_from(["put", "share", "take", "replace", "reorder", "disturb", "attribute", "none"]),
    st.integers(0, 40),
    st.integers(0, 40),
    SCALARS | ARRAYS | STATES,
)


def edit(state, change):
    what, where, at, value = change
    containers, found = inside(state)
    if what == "disturb" and found:
        disturb(found[where % len(found)], at)
        return
    if not containers:
        return
    container = containers[where % len(containers)]
    if what == "put":
        put(container, at, value)
    elif what == "share" and found:
        replace(container, where, found[at % len(found)])
    elif what == "take":
        take(container, at)
    elif what == "replace":
        replace(container, at, value)
    elif what == "reorder":
        reorder(container, at)
    elif what == "attribute" and isinstance(container, (OrderedDict, Counter)):
        container.note = at


def outlined(flat):
    known = described(flat)
    return known["rows"], known["outline"]


@settings(max_examples=400, deadline=None)
@given(STATES, st.lists(EDITS, max_size=6), st.integers(1, OFTEN))
def test_whatever_changes_the_result_is_that_of_a_fresh_walk(state, edits, times):
    flattener = tree.Flattener(path="item")
    before = None
    for change in [("none", 0, 0, None), *edits]:
        edit(state, change)
        for _ in range(times):
            flat = check_like_new(flattener, state)
            if flat is None:
                continue
            if before is not None:
                assert (flat.outline is before[0]) == (outlined(flat) == before[1])
            before = flat.outline, outlined(flat)


# ---------------------------------------------------------------------- what is noticed, by name


def nested():
    return {
        "weights": [torch.ones(3), torch.zeros(2, 2)],
        "groups": [{"lr": 0.1, "betas": (0.9, 0.999), "params": [0, 1, 300]}],
        "numpy": np.arange(3.0),
        5: OrderedDict(a=1),
    }


def test_an_unchanged_state_is_the_same_all_the_way():
    state = nested()
    flattener = experienced(state)
    one, other = flattener.flatten(state), flattener.flatten(state)
    assert one.outline is other.outline
    assert one.skeleton is other.skeleton


def test_numbers_are_read_anew_and_the_rest_of_the_skeleton_is_used_again():
    state = nested()
    flattener = experienced(state)
    one = flattener.flatten(state)
    text = json.dumps(one.skeleton)
    state["groups"][0]["lr"] = 0.01
    other = check_like_new(flattener, state)
    assert json.dumps(one.skeleton) == text
    before, after = (dict(map(tuple, flat.skeleton["items"])) for flat in (one, other))
    assert after["groups"][0]["lr"] == 0.01
    assert after["groups"][0]["betas"] is before["groups"][0]["betas"]
    assert after["weights"] is before["weights"]
    assert one.outline is other.outline


def test_equal_numbers_that_are_other_objects_change_nothing():
    flattener = tree.Flattener()
    skeletons = [flattener.flatten([int("1000"), str(10**3)]).skeleton for _ in range(OFTEN + 1)]
    assert skeletons[-1] is skeletons[-2]


LOOKALIKES = [
    (1, True), (1, 1.0), (0.0, -0.0), (True, 1.0), ("1", 1), (None, False),
    (float("nan"), float("inf")), (np.float64(1), 1.0), (Level.LOW, 1), ([], ()),
    ((1, 2), Point(1, 2)), (OrderedDict(), {}), (Counter(), {}), (b"a" * 4096, b"a" * 4097),
    (np.float32(1), np.float64(1)), (bytes(5000), bytes(5001)), (np.zeros(1), torch.zeros(1)),
    (torch.zeros(1), torch.nn.Parameter(torch.zeros(1))), (np.zeros(0), np.zeros((0, 1))),
]  # fmt: skip


@pytest.mark.parametrize("pair", LOOKALIKES, ids=repr)
def test_values_that_resemble_each_other_are_told_apart(pair):
    for one, other in (pair, pair[::-1]):
        state = {"v": one}
        flattener = experienced(state)
        state["v"] = other
        check_like_new(flattener, state)


KEY_LOOKALIKES = [(1, True), (0.0, -0.0), (1, 1.0), ("1", 1), ((1, 2), (True, 2)), (None, "null")]


@pytest.mark.parametrize("pair", KEY_LOOKALIKES, ids=repr)
def test_keys_that_resemble_each_other_are_told_apart(pair):
    for one, other in (pair, pair[::-1]):
        flattener = experienced({one: torch.zeros(1), "x": 2})
        check_like_new(flattener, {other: torch.zeros(1), "x": 2})


def test_a_record_of_numpy_that_changes_in_place_is_read_anew():
    record = np.zeros(1, [("a", "<i4")])[0]
    state = [record, 1]
    flattener = experienced(state)
    record["a"] = 7
    check_like_new(flattener, state)


def test_parts_that_move_from_one_container_to_its_neighbour_are_noticed():
    parts = [torch.ones(1), torch.ones(2), torch.ones(3)]
    names = ["a", "b", "c"]
    both = dict(zip(names, parts, strict=True))
    split = [[{k: both[k] for k in names[:at]}, {k: both[k] for k in names[at:]}] for at in (1, 2)]
    flattener = experienced(split[0])
    check_like_new(flattener, split[1])
    lists = [[parts[:at], parts[at:]] for at in (1, 2)]
    flattener = experienced(lists[0])
    check_like_new(flattener, lists[1])


def test_another_order_of_an_ordered_dict_is_noticed():
    state = OrderedDict(a=torch.ones(1), b=torch.ones(2), c=1)
    flattener = experienced(state)
    state.move_to_end("a")
    assert list(check_like_new(flattener, state).leaves) == ["b", "a"]


def test_attributes_of_an_ordered_dict_are_read_anew():
    state = {"model": torch.nn.Linear(1, 1).state_dict(), "other": OrderedDict(a=1)}
    flattener = experienced(state)
    state["model"]._metadata[""]["version"] = 9
    assert "9" in json.dumps(check_like_new(flattener, state).skeleton)
    state["other"].note = [torch.ones(1)]
    with pytest.raises(TreeError, match="attributes"):
        flattener.flatten(state)
    check_like_new(flattener, state)


TENSOR_CHANGES = {
    "other memory": lambda x: setattr(x, "data", x.data.clone()),
    "another shape": lambda x: setattr(x, "data", x.data.view(2, 8)),
    "fewer rows": lambda x: setattr(x, "data", x.data[:2]),
    "other strides": lambda x: setattr(x, "data", x.data.t()),
    "another dtype": lambda x: setattr(x, "data", x.data.view(torch.int32)),
    "half": lambda x: setattr(x, "data", x.data.half()),
    "negated": lambda x: setattr(x, "data", torch._neg_view(x.data)),
    "set_": lambda x: x.data.set_(torch.arange(16.0)) is None or x.set_(torch.arange(16.0)),
    "resize_": lambda x: x.resize_(5, 5),
    "smaller": lambda x: x.resize_(2),
    "trained": lambda x: x.requires_grad_(),
    "emptied": lambda x: setattr(x, "data", torch.empty(0)),
    "in place": lambda x: x.mul_(3),
}


@pytest.mark.parametrize("kind", [torch.Tensor, torch.nn.Parameter])
@pytest.mark.parametrize("change", TENSOR_CHANGES)
def test_a_tensor_that_changes_its_state_is_noticed(change, kind):
    tensor = torch.arange(16.0).reshape(4, 4)
    if kind is torch.nn.Parameter:
        tensor = torch.nn.Parameter(tensor, requires_grad=False)
    state = {"x": tensor, "same": tensor, "twin": tensor.detach(), "other": torch.ones(2)}
    flattener = experienced(state)
    TENSOR_CHANGES[change](tensor)
    check_like_new(flattener, state)
    check_like_new(flattener, state)


def test_a_tensor_that_becomes_conjugated_is_noticed():
    tensor = torch.ones(3, dtype=torch.complex64) * 1j
    state = [torch.ones(1), tensor, tensor[:]]
    flattener = experienced(state)
    tensor.data = tensor.data.conj()
    assert check_like_new(flattener, state).aliases == {}


NUMPY_CHANGES = {
    "another shape": lambda x: setattr(x, "shape", (2, 8)),
    "another dtype": lambda x: setattr(x, "dtype", np.dtype("<i8")),
    "other bytes": lambda x: setattr(x, "dtype", x.dtype.newbyteorder()),
    "resized": lambda x: x.resize((20,), refcheck=False),
    "smaller": lambda x: x.resize((2,), refcheck=False),
    "in place": lambda x: x.__imul__(3),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("change", NUMPY_CHANGES)
def test_an_array_of_numpy_that_changes_its_state_is_noticed(change):
    array = np.arange(16.0)
    state = {"x": array, "same": array, "other": np.ones(2)}
    flattener = experienced(state)
    NUMPY_CHANGES[change](array)
    check_like_new(flattener, state)


def test_other_arrays_of_the_same_form_keep_the_outline():
    state = {"a": torch.ones(2), "b": torch.ones(3), "c": np.ones(1), "d": bytes(5000)}
    flattener = experienced(state)
    outline = flattener.flatten(state).outline
    for _ in range(3):
        state.update(a=torch.rand(2), c=np.zeros(1), d=b"x" * 5000)
        flat = check_like_new(flattener, state)
        assert flat.outline is outline
    assert flat.leaves["a"].live is state["a"]


def test_other_arrays_that_share_memory_by_now_are_noticed():
    state = [torch.ones(2), torch.ones(2)]
    flattener = experienced(state)
    state[1] = state[0].view(2)
    assert check_like_new(flattener, state).aliases == {"1": "0"}
    state[1] = torch.ones(2)
    assert check_like_new(flattener, state).aliases == {}


@pytest.mark.parametrize("make", [torch.zeros, np.zeros])
def test_empty_arrays_that_are_the_same_or_not_by_now_are_noticed(make):
    base = make((3, 3))
    one, other = base[:0], base[:0]
    state = [one, other]
    flattener = experienced(state)
    state[1] = one
    assert check_like_new(flattener, state).aliases == {"1": "0"}
    flattener = experienced(state)
    state[1] = other
    assert check_like_new(flattener, state).aliases == {}


@pytest.mark.parametrize("make", [torch.ones, np.ones])
def test_what_was_there_before_is_known_by_where_it_is_now(make):
    first, second, third = (make(2) for _ in range(3))
    state = [first, second]
    flattener = experienced(state)
    state[1] = third
    check_like_new(flattener, state)
    state[:] = [second, second]
    assert check_like_new(flattener, state).aliases == {"1": "0"}


@pytest.mark.parametrize("make", [torch.ones, np.ones])
def test_the_same_memory_in_another_order_is_noticed(make):
    square = make((4, 4))
    state = [square, square[:]]
    flattener = experienced(state)
    state[1] = square.T
    assert check_like_new(flattener, state).aliases == {}


def test_temporary_arrays_do_not_pass_for_each_other():
    flattener = tree.Flattener(path="item")
    for number in range(20):
        flat = flattener.flatten([torch.full((50,), float(number)), np.full(50, number)])
        assert flat.aliases == {}
        assert stage(flat)[1]["0"] == bytearray(np.full(50, number, np.float32).tobytes())


def test_the_outline_outlives_changes_that_are_not_its_own():
    state = {"w": torch.ones(2), "losses": []}
    flattener = tree.Flattener(path="item")
    outlines = set()
    for number in range(12):
        state["losses"].append(number)
        outlines.add(check_like_new(flattener, state).outline)
    assert len(outlines) == 1


def test_a_refused_state_is_refused_again_and_fine_once_it_is_mended():
    state = {"a": torch.ones(1), "b": 1}
    flattener = experienced(state)
    for _ in range(OFTEN):
        state["b"] = "\ud800"
        with pytest.raises(TreeError, match=r"item\.b: a string with a lone surrogate"):
            flattener.flatten(state)
        state["b"] = 2
        assert check_like_new(flattener, state).skeleton["b"] == 2


# ----------------------------------------------------------------------------------- memory


def test_nothing_is_kept_alive_by_what_is_remembered():
    state = {
        "t": torch.ones(4),
        "p": torch.nn.Parameter(torch.ones(4)),
        "n": np.ones(4),
        "s": [torch.ones(2)],
    }
    flattener = experienced(state)
    flat = flattener.flatten(state)
    seen = [weakref.ref(value) for value in (state["t"], state["p"], state["n"], state["s"][0])]
    storage = state["t"].untyped_storage()._weak_ref()
    state.clear()
    assert all(ref() is not None for ref in seen), "a flat state holds its arrays"
    del flat
    gc.collect()
    assert [ref() for ref in seen] == [None] * 4
    assert torch.UntypedStorage._new_with_weak_ptr(storage) is None
    assert flattener.flatten(state).leaves == {}


def test_flat_states_of_different_moments_are_independent():
    state = nested()
    flattener = experienced(state)
    flats = []
    for number in range(4):
        state["groups"][0]["params"][2] = 300 + number
        flats.append((flattener.flatten(state), 300 + number))
    for flat, number in flats:
        groups = dict(map(tuple, flat.skeleton["items"]))["groups"]
        assert groups[0]["params"] == [0, 1, number]


def test_a_default_device_changes_nothing():
    state = [torch.ones(2), torch.ones(2, dtype=torch.complex64)]
    flattener = experienced(state)
    with torch.device("meta"):
        flat = flattener.flatten(state)
    assert [leaf.on_host for leaf in flat.leaves.values()] == [True, True]
    assert flat.outline is flattener.flatten(state).outline
