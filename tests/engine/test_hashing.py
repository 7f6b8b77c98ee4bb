"""Digests and finiteness, found in one reading, by threads ahead of whoever asks."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from blake3 import blake3

from holdfast import tree
from holdfast.engine import hashing, spreading
from holdfast.engine.finite import PIECE_NBYTES
from holdfast.engine.hashing import Findings, HashAhead, look_at
from holdfast.engine.snapshot import Snapshots, live


def arrays_of(state, take=lambda flats: Snapshots().take(flats)):
    return take({"model": tree.flatten(state)}).items["model"].arrays


def numbers(count, dtype="<f4"):
    return (np.arange(count) % 251).astype(dtype)


@pytest.mark.parametrize("take", [lambda flats: Snapshots().take(flats), live])
@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<f2", "<i8", "|u1", ">f8"])
@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_a_digest_is_that_of_all_bytes_whatever_the_pieces(take, dtype, extra):
    width = np.dtype(dtype).itemsize
    values = numbers(3 * PIECE_NBYTES // width + extra, dtype)
    (array,) = arrays_of({"w": values}, take)
    assert look_at(array).digest == blake3(values.tobytes()).hexdigest()


PLACES = {
    "the first": 0,
    "the last of a piece": PIECE_NBYTES // 4 - 1,
    "the first of the next piece": PIECE_NBYTES // 4,
    "in the middle": PIECE_NBYTES // 4 + 1234,
    "the last of all": -1,
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("extra", [0, 1])
def test_one_number_that_is_not_finite_is_found_wherever_it_is(place, value, extra):
    values = np.zeros(3 * PIECE_NBYTES // 4 + extra, "<f4")
    (array,) = arrays_of({"w": values})
    assert look_at(array).finite
    values[place] = value
    (array,) = arrays_of({"w": values})
    found = look_at(array)
    assert not found.finite
    assert found.digest == blake3(values.tobytes()).hexdigest()


def test_numbers_of_two_bytes_and_of_sixteen_are_found_at_the_end_of_the_last_piece():
    for dtype in ("<f2", "<c16", "<c8"):
        values = np.zeros(2 * PIECE_NBYTES // np.dtype(dtype).itemsize + 3, dtype)
        values[-1] = np.nan
        (array,) = arrays_of({"w": values})
        assert not look_at(array).finite


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(spreading, "_BATCH_NBYTES", 1)


def nothing():
    """Is done alongside, where a test is about something else."""


@pytest.mark.usefixtures("small_batches")
def test_what_is_asked_for_is_waited_for_and_what_is_known_is_told_at_once():
    gate = threading.Event()

    def look(array):
        if array.name != "a":
            assert gate.wait(60)
        return Findings(array.name, finite=True)

    arrays = arrays_of({name: numbers(10) for name in "abc"})
    with HashAhead(arrays, alongside=nothing, look=look) as hashes:
        assert hashes[arrays[0]].digest == "a"
        assert [array.name for array in hashes.so_far(arrays)] == ["a"]
        gate.set()
        assert [hashes[array].digest for array in arrays] == ["a", "b", "c"]
        assert len(hashes.so_far(arrays)) == 3


@pytest.mark.usefixtures("small_batches")
def test_a_failure_to_look_is_raised_where_the_array_is_asked_for():
    def look(array):
        if array.name == "b":
            raise MemoryError("no room to look")
        return Findings(array.name, finite=True)

    arrays = arrays_of({name: numbers(10) for name in "abc"})
    with HashAhead(arrays, alongside=nothing, look=look) as hashes:
        for _ in range(2):
            with pytest.raises(MemoryError, match="no room"):
                hashes[arrays[1]]


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.usefixtures("small_batches")
def test_what_is_done_alongside_is_done_once_and_its_result_is_waited_for(count):
    gate, calls = threading.Event(), []

    def alongside():
        calls.append(threading.current_thread())
        if calls[0] is not threading.main_thread():
            assert gate.wait(60)
        return "noted"

    arrays = arrays_of({name: numbers(10) for name in "abc"[:count]})
    with HashAhead(arrays, alongside=alongside) as hashes:
        # It holds up no digest.
        assert [hashes[array] for array in arrays] == [look_at(array) for array in arrays]
        gate.set()
        assert hashes.beside == hashes.beside == "noted"
    assert len(calls) == 1


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.usefixtures("small_batches")
def test_a_failure_alongside_is_raised_where_its_result_is_asked_for(count):
    def alongside():
        raise OSError("the journal is full")

    arrays = arrays_of({name: numbers(10) for name in "abc"[:count]})
    with HashAhead(arrays, alongside=alongside) as hashes:
        for _ in range(2):
            with pytest.raises(OSError, match="the journal is full"):
                hashes.beside


@pytest.mark.usefixtures("small_batches")
def test_leaving_early_ends_the_looking():
    begun, looked, opened = threading.Event(), [], []

    def look(array):
        looked.append(array.name)
        begun.set()
        while not (opened and opened[0]._stopped):
            threading.Event().wait(0.01)
        return Findings(array.name, finite=True)

    arrays = arrays_of({f"t{n:02}": numbers(10) for n in range(20)})
    arrays = [replace(array, nbytes=1 << 40) for array in arrays]
    with HashAhead(arrays, alongside=nothing, look=look) as hashes:
        assert begun.wait(60)
        opened.append(hashes)
    assert 1 <= len(looked) <= hashing._THREADS
    assert not any(thread.is_alive() for thread in hashes._threads)


@pytest.mark.parametrize("started", [0, 1])
@pytest.mark.usefixtures("small_batches")
def test_where_no_thread_starts_any_more_the_others_look(monkeypatch, started):
    left, real = [started], threading.Thread.start

    def start(self):
        if not left[0]:
            raise RuntimeError("can't start new thread at interpreter shutdown")
        left[0] -= 1
        real(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    arrays = arrays_of({name: numbers(10) for name in "abc"})
    with HashAhead(arrays, alongside=lambda: "noted") as hashes:
        assert [hashes[array] for array in arrays] == [look_at(array) for array in arrays]
        assert hashes.beside == "noted"


def test_an_array_without_elements_has_the_digest_of_no_bytes():
    (array,) = arrays_of({"w": np.empty((0, 3), "<f4")})
    assert look_at(array) == Findings(blake3(b"").hexdigest(), finite=True)
