"""Snapshots: the bytes of one moment, laid out as the shards are, in memory used again."""

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast import frameworks, tree
from holdfast.engine.arena import ArenaPool
from holdfast.engine.shardfile import ALIGNMENT, ITEM_NBYTES
from holdfast.engine.snapshot import Snapshots, live
from holdfast.errors import SaveError
from holdfast.storage.draft import address_of
from tests.engine.kinds import COMPLEX, STATES, bits, counting


def read(snapshot):
    """Returns what a snapshot holds: item to array name to bytes."""
    return {
        item: {array.name: b"".join(map(bytes, array.parts())) for array in copy.arrays}
        for item, copy in snapshot.items.items()
    }


def flats_of(**items):
    return {item: tree.flatten(state) for item, state in items.items()}


def bytes_of(**items):
    return {item: {name: bits(v) for name, v in state.items()} for item, state in items.items()}


@pytest.mark.parametrize("value", STATES.values(), ids=STATES.keys())
@pytest.mark.parametrize(
    "take", [lambda flats: Snapshots().take(flats), live], ids=["copied", "in place"]
)
def test_every_kind_of_array_is_taken_to_the_bit(value, take):
    state = {"before": np.zeros(3, "|u1"), "value": value}
    snapshot = take(flats_of(model=state))
    assert read(snapshot) == bytes_of(model=state)
    runs = b"".join(map(bytes, snapshot.runs(snapshot.items["model"].arrays)))
    assert runs == b"".join(read(snapshot)["model"].values())


@pytest.mark.parametrize(
    "take", [lambda flats: Snapshots().take(flats), live], ids=["copied", "in place"]
)
def test_all_kinds_lie_beside_each_other_without_harm(take):
    snapshot = take(flats_of(model=STATES))
    assert read(snapshot) == bytes_of(model=STATES)
    assert snapshot.nbytes == sum(map(len, bytes_of(model=STATES)["model"].values()))


def test_large_arrays_in_place_are_read_in_parts_and_whole():
    values = counting((3000, 2001)).T
    (array,) = live(flats_of(model={"w": values})).items["model"].arrays
    parts = [bytes(part) for part in array.parts()]
    assert len(parts) > 1
    assert b"".join(parts) == bits(values)
    contiguous = counting((10, 10))
    (array,) = live(flats_of(model={"w": contiguous})).items["model"].arrays
    (part,) = array.parts()
    assert address_of(part) == contiguous.data_ptr()
    assert part.readonly


# -- where it lies ---------------------------------------------------------------------------------


def place_of(snapshot, item, name):
    (array,) = [a for a in snapshot.items[item].arrays if a.name == name]
    return array.begin


def in_file_order(arrays):
    return sorted(arrays, key=lambda a: (-ITEM_NBYTES[a.dtype], a.name))


def test_a_group_is_one_piece_of_memory_at_a_multiple_of_the_alignment():
    state = {
        "b": counting((10,)), "a": counting((3,), torch.float64), "c": counting((7,), torch.int8),
        "empty": torch.empty(0), "d": counting((5,), torch.float16),
    }  # fmt: skip
    flats = flats_of(model=state, optimizer={"m": counting((9,)), "n": counting((2,))})
    groups = {"model": (("b", "c"), ("a",)), "optimizer": (("m", "n", "gone"),)}
    snapshot = Snapshots().take(flats, groups)
    for item, several in {"model": (*groups["model"], ("empty", "d"))}.items():
        for group in several:
            arrays = in_file_order(a for a in snapshot.items[item].arrays if a.name in group)
            (whole,) = snapshot.runs(arrays)
            assert address_of(whole) % ALIGNMENT == 0
            assert bytes(whole) == b"".join(bits(state[a.name]) for a in arrays)
    arrays = snapshot.items["optimizer"].arrays
    assert len(list(snapshot.runs(arrays))) == 1


def test_what_rests_lies_apart_where_nothing_is_known_yet():
    frozen = torch.nn.Parameter(counting((4,)), requires_grad=False)
    snapshot = Snapshots().take(flats_of(model={"b": counting((4,)), "a": frozen}))
    assert place_of(snapshot, "model", "a") == 0
    assert place_of(snapshot, "model", "b") == ALIGNMENT


def test_arrays_that_are_no_neighbours_are_several_views():
    state = {name: counting((4,)) for name in "abcd"}
    snapshot = Snapshots().take(flats_of(model=state))
    a, b, c, d = snapshot.items["model"].arrays
    for arrays, views in (((a, b, c, d), 1), ((a, c, d), 2), ((d, c), 2), ((), 0), ((b,), 1)):
        runs = [bytes(view) for view in snapshot.runs(arrays)]
        assert len(runs) == views
        assert b"".join(runs) == b"".join(bits(state[array.name]) for array in arrays)


def test_the_end_of_a_group_may_be_written_up_to_the_alignment():
    pool = ArenaPool()
    snapshot = Snapshots(pool).take(flats_of(model={"w": np.zeros((2 << 20) - 1, "|u1")}))
    (view,) = snapshot.runs(snapshot.items["model"].arrays)
    assert len(snapshot._memory) - len(view) >= -len(view) % ALIGNMENT


# -- one after another -----------------------------------------------------------------------------


def test_a_state_of_the_same_structure_is_copied_into_the_same_memory():
    snapshots, flattener = Snapshots(), tree.Flattener(path="model")
    state = {"a": torch.zeros(1000), "b": np.zeros(10)}
    addresses = set()
    for number in range(4):
        state["a"].fill_(number)
        state["b"] = np.full(10, number + 0.5)
        snapshot = snapshots.take({"model": flattener.flatten(state)})
        assert read(snapshot) == bytes_of(model=state)
        addresses.add(
            tuple(address_of(next(iter(a.parts()))) for a in snapshot.items["model"].arrays)
        )
        snapshot.release()
    assert len(addresses) == 1


def test_another_arrangement_of_the_same_state_is_laid_out_anew():
    snapshots, flattener = Snapshots(), tree.Flattener(path="model")
    state = {name: counting((5,)) for name in "abcd"}
    for group in (("a", "c"), ("b", "c"), ("a", "d")):
        snapshot = snapshots.take({"model": flattener.flatten(state)}, {"model": (group,)})
        arrays = [array for array in snapshot.items["model"].arrays if array.name in group]
        assert len(list(snapshot.runs(arrays))) == 1
        assert read(snapshot) == bytes_of(model=state)
        snapshot.release()


def test_while_a_snapshot_is_in_use_the_next_one_has_memory_of_its_own():
    snapshots = Snapshots()
    state = {"a": torch.zeros(1000)}
    one = snapshots.take(flats_of(model=state))
    state["a"].fill_(1)
    other = snapshots.take(flats_of(model=state))
    state["a"].fill_(2)
    assert read(one) == bytes_of(model={"a": torch.zeros(1000)})
    assert read(other) == bytes_of(model={"a": torch.ones(1000)})
    for snapshot in (one, other):
        snapshot.release()
        assert snapshot.released
        snapshot.release()
    # Given back once each: the second use of one memory would be the second snapshot in it.
    again = [snapshots.take(flats_of(model=state)) for _ in range(3)]
    assert len({address_of(snapshot._memory) for snapshot in again}) == 3


DTYPES = [torch.float32, torch.float64, torch.int8, torch.bfloat16, torch.bool, torch.complex128]
SHAPES = [(), (0,), (1,), (3, 5), (700,), (40_000,)]
VALUES = st.tuples(st.sampled_from(DTYPES), st.sampled_from(SHAPES), st.booleans())
TREES = st.dictionaries(st.sampled_from("abcdef"), VALUES, max_size=6)


@settings(max_examples=60, deadline=None)
@given(
    chain=st.lists(st.tuples(TREES, st.permutations("abcdef"), st.booleans()), max_size=6),
    held=st.integers(1, 3),
)
def test_any_states_one_after_another_are_taken_as_they_are(chain, held):
    snapshots = Snapshots()
    snapshots.pool.keep = held
    flattener = tree.Flattener(path="model")
    arrangement, under_way = {}, []
    for number, (drawn, order, keeps) in enumerate(chain):
        state = {
            name: torch.nn.Parameter(
                counting(shape, dtype) if dtype == torch.bool else counting(shape, dtype) * number,
                requires_grad=not stable and dtype.is_floating_point,
            )
            for name, (dtype, shape, stable) in sorted(
                drawn.items(), key=lambda one: order.index(one[0])
            )
        }
        if not keeps:
            arrangement = {"model": (tuple(order[:2]), tuple(order[2:4]))}
        snapshot = snapshots.take({"model": flattener.flatten(state)}, arrangement)
        under_way.append((snapshot, bytes_of(model=state)))
        with torch.no_grad():
            for value in state.values():
                if value.numel():
                    value.zero_()
        for taken, expected in under_way:
            assert read(taken) == expected
        if len(under_way) == held:
            under_way.pop(0)[0].release()


@pytest.mark.parametrize("before", range(17))
def test_numbers_of_sixteen_bytes_are_copied_to_odd_addresses(before):
    several = COMPLEX.to(torch.complex128)
    state = {
        "a": torch.ones(before, dtype=torch.int8),
        "b": several[0, 0],
        "c": several[1, 1].conj(),
        "d": several.T.conj(),
    }
    assert read(Snapshots().take(flats_of(model=state))) == bytes_of(model=state)


def test_a_writer_beside_the_save_changes_nothing_in_it():
    snapshots, stop = Snapshots(), threading.Event()
    for size in (1, 1000, 300_000):
        state = {"w": torch.zeros(size), "n": np.zeros(size)}
        go, gone = threading.Semaphore(0), threading.Semaphore(0)

        def scribble(state=state, go=go, gone=gone):
            while go.acquire(timeout=60) and not stop.is_set():
                state["w"].add_(1)
                state["n"] += 1
                gone.release()

        writer = threading.Thread(target=scribble)
        writer.start()
        for number in range(40):
            snapshot = snapshots.take(flats_of(model=state))
            go.release()
            expected = {"w": torch.full((size,), float(number)), "n": np.full(size, float(number))}
            assert read(snapshot) == bytes_of(model=expected)
            assert gone.acquire(timeout=60)
            assert read(snapshot) == bytes_of(model=expected)
            snapshot.release()
        stop.set()
        go.release()
        writer.join(60)
        stop.clear()


def test_a_state_that_cannot_be_copied_leaves_no_memory_behind(monkeypatch):
    snapshots, pinned = Snapshots(), []
    first = snapshots.take(flats_of(model={"a": np.zeros(5)}))
    first.release()
    arena = snapshots.pool.borrow(1)
    arena.pin(lambda memory: lambda: pinned.append("unpinned"))
    snapshots.pool.give_back(arena)
    monkeypatch.setattr("holdfast.engine.layout.prepare_copy", refuse)
    with pytest.raises(MemoryError):
        snapshots.take(flats_of(model={"b": np.zeros(5)}))
    assert pinned == ["unpinned"]


def refuse(leaves, buffers):
    raise MemoryError("no room")


def test_a_snapshot_that_was_revoked_says_so():
    snapshot = Snapshots().take(flats_of(model={"a": np.zeros(5)}))
    snapshot.require_whole()
    snapshot.revoke(SaveError("changed meanwhile"))
    with pytest.raises(SaveError, match="changed meanwhile"):
        snapshot.require_whole()


def test_memory_is_pinned_once_for_what_comes_from_a_device(monkeypatch):
    adapter = frameworks.load("torch")
    calls = []

    def pin(memory):
        calls.append(("pin", len(memory)))
        return lambda: calls.append(("unpin", len(memory)))

    monkeypatch.setattr(adapter, "pin", pin)
    snapshots = Snapshots()
    state = {"w": torch.ones(10)}
    snapshots.take({"item": tree.flatten(state)}).release()
    assert calls == []
    # No device is here: the tensor says that it lies on one.
    monkeypatch.setattr("holdfast.adapters.torch.arrays.TorchLeaf.on_host", False)
    for size in (11, 12):
        snapshots.take({"item": tree.flatten({"w": torch.ones(size)})}).release()
    assert [name for name, _ in calls] == ["pin"]
    snapshots.pool.clear()
    assert [name for name, _ in calls] == ["pin", "unpin"]
