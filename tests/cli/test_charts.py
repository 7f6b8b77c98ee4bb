"""Charts out of characters."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.cli.charts import plot, sparkline

SPARKS = [
    ([0, 1, 2, 3, 4, 5, 6, 7], 8, "▁▂▃▄▅▆▇█"),
    ([7, 0], 8, "█▁"),
    ([5, 5, 5], 8, "▁▁▁"),
    ([0, math.nan, 7], 8, "▁ █"),
    ([0, 0, 7, 7], 2, "▁█"),
    ([math.nan, math.inf], 8, ""),
    ([], 8, ""),
]
values = st.floats(allow_nan=True, allow_infinity=True)


@pytest.mark.parametrize(("numbers", "width", "expected"), SPARKS)
def test_a_sparkline_rises_with_its_values(numbers, width, expected):
    assert sparkline(numbers, width=width) == expected


def test_a_falling_line_starts_at_the_top_and_ends_at_the_bottom():
    rows = plot([(0, 1.0), (9, 0.0)], width=30, height=4)
    assert len(rows) == 5
    assert rows[0].startswith("1.0000 ┤⠉")
    assert rows[3].startswith("0.0000 ┤")
    assert rows[3][-1] != rows[0][-1]
    assert rows[4].split() == ["step", "0", "9"]


def test_values_that_are_not_finite_break_the_line():
    whole = plot([(0, 0.0), (1, 0.0), (2, 0.0)], width=40, height=2)
    broken = plot([(0, 0.0), (1, math.nan), (2, 0.0)], width=40, height=2)
    dots = [
        sum(char > "⠀" and char < "⣿" for row in rows for char in row) for rows in (whole, broken)
    ]
    assert dots[1] == 2 < dots[0]


def test_nothing_finite_draws_nothing():
    assert plot([(0, math.nan)], width=40, height=4) == []


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(0, 10**9), values), min_size=1, max_size=30),
    st.integers(20, 120),
    st.integers(2, 20),
)
def test_a_plot_never_leaves_its_frame(points, width, height):
    rows = plot(points, width=width, height=height)
    assert len(rows) in (0, height + 1)
    margin = max((row.index("┤") for row in rows[:-1]), default=0)
    assert all(len(row) <= max(width, margin + 30) for row in rows)


@settings(max_examples=100)
@given(st.lists(values, max_size=200), st.integers(1, 40))
def test_a_sparkline_never_leaves_its_width(numbers, width):
    assert len(sparkline(numbers, width=width)) <= width
