"""Lines for charts: few points, gaps where there is no value, and a place for each step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.insight import Series, line_of

NAN = float("nan")


def series(values, steps=None):
    steps = range(len(values)) if steps is None else steps
    values = np.array(values, np.float64)
    return Series(np.array(steps, np.int64), np.zeros(len(values)), values, len(values))


def segments(line):
    """Returns the stretches of a line between its gaps."""
    broken = np.flatnonzero(np.isnan(line.values))
    return [part[np.isfinite(part)] for part in np.split(line.values, broken)]


def test_a_short_line_is_the_series_with_infinities_as_gaps():
    line = line_of(series([1.0, NAN, 2.0, float("inf"), 3.0]), 10)
    assert line.steps.tolist() == [0, 1, 2, 3, 4]
    assert np.isnan(line.values).tolist() == [False, True, False, True, False]
    assert line.drawn == 3


def test_a_thinned_line_is_broken_where_the_series_is():
    pytest.importorskip("tsdownsample", reason="the extra 'plots' is not installed")
    values = np.sin(np.arange(5000) / 100)
    values[2000:2010] = NAN
    values[3000] = NAN
    line = line_of(series(values), 100)
    assert line.drawn == 100
    parts = [part for part in segments(line) if len(part)]
    assert len(parts) == 3
    gaps = line.steps[np.isnan(line.values)]
    assert np.all((gaps >= 2000) & (gaps <= 3100))


@pytest.mark.parametrize(
    ("values", "steps", "asked", "expected"),
    [
        ([0.0, 10.0], [0, 10], [5, -3, 99], [5.0, 0.0, 10.0]),
        ([0.0, NAN, 10.0], [0, 5, 10], [5], [5.0]),
        ([1.0, 2.0, 7.0], [0, 4, 0], [0], [7.0]),
        ([NAN], [0], [0], [NAN]),
        ([], [], [3], [NAN]),
    ],
)
def test_a_mark_stands_on_the_line(values, steps, asked, expected):
    found = line_of(series(values, steps), 10).at(np.array(asked, np.float64))
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.floats(-9, 9), st.just(NAN), st.just(float("-inf"))), max_size=300),
    st.integers(4, 40),
)
def test_a_line_never_has_more_points_than_asked_for(values, most):
    line = line_of(series(values), most)
    finite = int(np.isfinite(np.array(values)).sum())
    assert line.drawn == min(finite, most) if len(values) > most else line.drawn == finite
    assert len(line.steps) == len(line.values) <= max(2 * most, len(values[: most + 1]))
    assert np.all(np.diff(line.steps) >= 0)
