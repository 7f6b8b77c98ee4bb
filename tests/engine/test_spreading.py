"""Work over a few threads: results in order, errors as they are, small items together."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.engine.spreading import _BATCH_NBYTES, batches, spread

SIZES = st.lists(st.integers(0, 3 * _BATCH_NBYTES), max_size=40)


@settings(max_examples=60)
@given(SIZES)
def test_results_come_in_the_order_of_the_items(sizes):
    assert spread(lambda size: size * 2, sizes, nbytes=int, name="t") == [s * 2 for s in sizes]


@settings(max_examples=60)
@given(SIZES)
def test_batches_hold_every_item_once_and_end_when_they_are_full(sizes):
    found = batches(sizes, int)
    assert [size for batch in found for size in batch] == sizes
    assert all(sum(batch[:-1]) < _BATCH_NBYTES for batch in found)


def test_an_error_of_the_work_is_raised_as_it_is():
    def fail(size):
        if size == 7:
            raise OSError("at seven")
        return size

    with pytest.raises(OSError, match="at seven"):
        spread(fail, [_BATCH_NBYTES, 7, _BATCH_NBYTES, 3], nbytes=int, name="t")


def test_little_work_starts_no_thread():
    seen = spread(lambda _: threading.current_thread(), [1, 2, 3], nbytes=int, name="t")
    assert set(seen) == {threading.current_thread()}


def test_without_new_threads_the_work_is_done_here(monkeypatch):
    def refuse(*_):
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    monkeypatch.setattr("holdfast.engine.spreading.ThreadPoolExecutor.submit", refuse)
    seen = spread(lambda _: threading.current_thread(), [_BATCH_NBYTES] * 3, nbytes=int, name="t")
    assert set(seen) == {threading.current_thread()}
