"""A bounded rate is never exceeded for long, and never far below what it may be."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.lifecycle.pacing import _BURST_S, Pacer

RATE = 1000.0


class Clock:
    """Time that passes only where somebody waits."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


def reads(steps):
    """Times and sizes of reads that begin, with a pause before each."""
    clock = Clock()
    pacer = Pacer(RATE, clock=clock, sleep=clock.sleep)
    begun = []
    for pause, nbytes in steps:
        clock.now += pause
        pacer.take(nbytes)
        begun.append((clock.now, nbytes))
    return begun


STEPS = st.lists(
    st.tuples(st.floats(0, 3).map(lambda s: round(s, 3)), st.integers(1, 900)), max_size=30
)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_between_any_two_moments_no_more_is_read_than_the_rate_allows(steps):
    begun = reads(steps)
    for first, (since, _) in enumerate(begun):
        for last, (until, nbytes) in enumerate(begun[first:], start=first):
            read = sum(size for _, size in begun[first:last])
            assert read <= RATE * (until - since + _BURST_S) + 1e-3, (first, last, nbytes)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 900), min_size=1, max_size=30))
def test_without_pauses_the_rate_is_made_use_of(sizes):
    begun = reads([(0.0, size) for size in sizes])
    assert begun[-1][0] - begun[0][0] == pytest.approx(
        max(0.0, sum(sizes[:-1]) / RATE - (begun[0][0] - 50.0)), abs=_BURST_S
    )


def test_a_long_pause_is_no_credit():
    begun = reads([(0, 100), (1000, 500), (0, 500), (0, 500)])
    assert begun[-1][0] - begun[1][0] >= 1.0 - _BURST_S
