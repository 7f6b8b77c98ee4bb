"""A state, its skeleton, and the state again."""

from __future__ import annotations

import enum
import json
from collections import Counter, OrderedDict
from datetime import UTC, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from holdfast import tree
from holdfast.errors import ConfigError, TreeError
from tests.state.samples import (
    LIVE,
    NUMPY_DTYPES,
    STRUCTURED_DTYPES,
    Color,
    Level,
    Moments,
    Point,
    check_same,
    stage,
    there_and_back,
)

NAMES = st.text(alphabet=st.characters(codec="utf-8"), max_size=8)
ZONES = st.none() | st.just(UTC) | st.just(timezone(timedelta(hours=-3, minutes=-30)))
KEYS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | NAMES | st.sampled_from(list(Color)),
    lambda key: st.lists(key, max_size=3).map(tuple),
    max_leaves=4,
)
ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**52, max_value=2**300)
    | st.floats()
    | NAMES
    | st.binary(max_size=60)
    | st.datetimes(timezones=ZONES)
    | st.sampled_from([Color.RED, Color.GREEN, Level.LOW, -0.0, -(2**53), 2**53 - 1])
    | st.sampled_from([np.float64(1.5), np.bool_(True), np.str_(""), np.int8(-3), np.bytes_(b"x")])
    | hnp.from_dtype(np.dtype("<M8[ms]"))
    | hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))
)
STATES = st.recursive(
    ATOMS,
    lambda part: (
        st.lists(part, max_size=4)
        | st.lists(part, max_size=4).map(tuple)
        | st.dictionaries(NAMES, part, max_size=4)
        | st.dictionaries(KEYS, part, max_size=3)
        | st.dictionaries(KEYS, part, max_size=3).map(OrderedDict)
        | st.dictionaries(KEYS, part, max_size=2).map(Counter)
        | st.builds(Point, part, part)
        | st.builds(Moments, part, part)
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(STATES)
def test_any_state_comes_back_to_the_bit(state):
    refused: tuple[str, ...] = ()
    try:
        flat = tree.flatten(state)
    except TreeError as error:
        refused = error.problems
    # Names can clash or be empty; nothing else of what is generated is refused.
    assert all("under the name" in problem for problem in refused)
    if refused:
        return
    skeleton, buffers = stage(flat)
    check_same(tree.unflatten(skeleton, buffers, like=LIVE), state)
    assert set(tree.array_nodes(skeleton)) == set(flat.leaves)
    for name, stored in tree.array_nodes(skeleton).items():
        leaf = flat.leaves[name]
        assert (stored.dtype_stored, stored.shape_stored) == (leaf.dtype, leaf.shape)
        assert stored.nbytes == leaf.nbytes == len(buffers[name])


@pytest.mark.parametrize("dtype", [*NUMPY_DTYPES, *STRUCTURED_DTYPES], ids=str)
@pytest.mark.parametrize("shape", [(), (0, 3), (4,), (2, 3, 4)])
def test_every_numpy_dtype_comes_back(dtype, shape):
    count = int(np.prod(shape))
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 2, size=count * np.dtype(dtype).itemsize, dtype=np.uint8)
    array = np.ndarray(shape, dtype, bytearray(raw.tobytes()))
    check_same(there_and_back({"w": array}), {"w": array})
    if shape == ():
        check_same(there_and_back(array[()]), array[()])


VIEWS = [
    lambda base: base.T,
    lambda base: base[::-1],
    lambda base: base[:, ::-2],
    lambda base: base[1],
    np.asfortranarray,
    lambda base: np.broadcast_to(base[0], (5, base.shape[1])),
]


@pytest.mark.parametrize("dtype", ["<f4", ">i4", "<M8[s]", "|b1"])
@pytest.mark.parametrize("view", VIEWS)
def test_a_view_is_stored_by_its_values(dtype, view):
    array = view(np.arange(24).reshape(4, 6).astype(dtype))
    check_same(there_and_back([array]), [np.ascontiguousarray(array)])


def test_bytes_that_numpy_would_tidy_up_stay():
    oddities = {
        "nan": np.array([0x7FF0000000000001, 0xFFF8000000000123], np.uint64).view(np.float64),
        "bool": np.array([2, 255, 0], np.uint8).view(np.bool_)[::2],
        "padding": np.full(2, 7, np.uint8).repeat(16).view(STRUCTURED_DTYPES[1]),
    }
    back = there_and_back(oddities)
    for name, array in oddities.items():
        assert back[name].tobytes() == array.tobytes()


SPELLINGS = [
    (1.0, "1.0"),
    (1e16, "1e+16"),
    (-0.0, "-0.0"),
    (2**53 - 1, "9007199254740991"),
    (True, "true"),
    (np.float64(0.5), '{"$": "scalar", "dtype": "<f8", "base64": "AAAAAAAA4D8="}'),
    (Level.LOW, '{"$": "enum", "type": "Level", "name": "LOW"}'),
]


@pytest.mark.parametrize(("value", "text"), SPELLINGS)
def test_a_type_is_seen_in_its_spelling(value, text):
    assert json.dumps(tree.flatten(value).skeleton) == text


@pytest.mark.parametrize("size", [4096, 4097])
def test_long_bytes_are_an_array(size):
    flat = tree.flatten({"blob": bytes(size)})
    assert list(flat.leaves) == (["blob"] if size > 4096 else [])
    check_same(there_and_back({"blob": b"\x01" * size}), {"blob": b"\x01" * size})


def test_integers_have_no_limit():
    for number in (10**5000, -(10**5000), 2**256, 2**256 - 1, -(2**53)):
        check_same(there_and_back({number: [number]}), {number: [number]})
    with pytest.raises(TreeError, match="a huge int"):
        tree.flatten({10**5000: object()})
    assert list(tree.flatten({2**256: np.zeros(1)}).leaves) == [hex(2**256)]


def test_the_same_memory_is_stored_once():
    base = np.arange(6.0)
    flat = tree.flatten({"a": base, "b": [base[:]], "c": base[::2], "d": base.reshape(2, 3)})
    assert list(flat.leaves) == ["a", "c", "d"]
    assert flat.aliases == {"b.0": "a"}
    back = there_and_back({"a": base, "b": [base]})
    assert back["a"] is back["b"][0]


def test_empty_arrays_are_never_the_same():
    flat = tree.flatten([np.empty(0), np.empty(0)])
    assert list(flat.leaves) == ["0", "1"]
    assert flat.aliases == {}


def test_a_temporary_array_does_not_pass_for_a_freed_one():
    flat = tree.flatten([np.full(50, index) for index in range(200)])
    assert len(flat.leaves) == 200


def test_names_are_the_paths():
    array = np.zeros(1)
    state = {
        "a": {"b.c": array[:]},
        0: [array + 1, array + 2],
        (1, None): array + 3,
        Color.RED: array + 4,
        "p": Point(array + 5, 1),
        True: {1.5: array + 6},
    }
    assert list(tree.flatten(state).leaves) == [
        "a.b.c", "0.0", "0.1", "(1,null)", "RED", "p.x", "true.1.5",
    ]  # fmt: skip
    assert list(tree.flatten(array).leaves) == ["value"]


def test_python_values_are_taken_at_once_and_arrays_at_the_copy():
    state = {"step": 1, "inner": [1], "w": np.zeros(2)}
    flat = tree.flatten(state)
    state["step"] = 2
    state["inner"].append(2)
    state["w"][:] = 1
    skeleton, buffers = stage(flat)
    state["w"][:] = 2
    back = tree.unflatten(skeleton, buffers)
    check_same(back, {"step": 1, "inner": [1], "w": np.ones(2)})


def test_arrays_are_built_on_the_buffers():
    skeleton, buffers = stage(tree.flatten({"w": np.arange(4)}))
    back = tree.unflatten(skeleton, buffers)
    back["w"][0] = 9
    assert np.frombuffer(buffers["w"], np.int64)[0] == 9


def test_arrays_on_read_only_or_misaligned_bytes_can_be_written_to():
    skeleton, buffers = stage(tree.flatten({"w": np.arange(4.0)}))
    shifted = memoryview(bytearray(b"?" + buffers["w"]))[1:]
    for given_bytes in (bytes(buffers["w"]), shifted):
        back = tree.unflatten(skeleton, {"w": given_bytes})
        assert back["w"].flags.aligned
        back["w"][0] = 7
        assert back["w"].tolist() == [7, 1, 2, 3]


def test_without_the_classes_names_come_back():
    state = {"c": Color.RED, "p": Point(1, 2), Level.LOW: 1}
    skeleton, buffers = stage(tree.flatten(state))
    back = tree.unflatten(skeleton, buffers)
    assert back["c"] == tree.EnumName("Color", "RED")
    assert back[tree.EnumName("Level", "LOW")] == 1
    assert type(back["p"]).__name__ == "Point"
    assert back["p"]._asdict() == {"x": 1, "y": 2}


def test_two_live_classes_of_one_name_are_told_apart_by_nobody():
    other = enum.Enum("Color", ["RED"])
    skeleton, buffers = stage(tree.flatten(Color.RED))
    assert tree.unflatten(skeleton, buffers, like=[other.RED]) is other.RED
    both = tree.unflatten(skeleton, buffers, like=[other.RED, Color.RED])
    assert both == tree.EnumName("Color", "RED")


@pytest.mark.parametrize("dtype", ["float16", np.float16, np.dtype("f2")])
def test_casting_leaves_whole_numbers_alone(dtype):
    state = {"f": np.ones(2), "i": np.ones(2, np.int64), "c": np.ones(2, np.complex64)}
    back = there_and_back(state, dtype=dtype)
    assert [array.dtype.name for array in back.values()] == ["float16", "int64", "complex64"]


def test_casting_to_what_numpy_has_not_says_so():
    with pytest.raises(ConfigError, match="numpy has no dtype bfloat16"):
        there_and_back([np.ones(1)], dtype="bfloat16")


BAD_BUFFERS = [
    {},
    {"w": memoryview(bytearray(7))},
    {"w": memoryview(bytes(8))},
]


@pytest.mark.parametrize("buffers", BAD_BUFFERS)
def test_copying_needs_a_writable_buffer_of_the_right_size(buffers):
    with pytest.raises(ConfigError, match="'w' needs a writable buffer of 8 bytes"):
        tree.flatten({"w": np.zeros(1)}).copy_into(buffers)
