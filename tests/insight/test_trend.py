"""Whether a metric gets better: told from noise, spikes, ties and no numbers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.insight.trend import RECENT, trend_of

RANDOM = np.random.default_rng(7)
NOISE = RANDOM.normal(0, 0.05, 300)
FALLING = np.linspace(2.0, 1.0, 300) + NOISE
SPIKES = FALLING.copy()
SPIKES[::10] = 1e6


@pytest.mark.parametrize(
    ("values", "mode", "direction"),
    [
        (FALLING, "min", "improving"),
        (FALLING, "max", "degrading"),
        (-FALLING, "max", "improving"),
        (SPIKES, "min", "improving"),
        (1.0 + NOISE, "min", "stable"),
        (np.ones(300), "min", "stable"),
        # Only what is recent counts.
        (np.concatenate([np.linspace(9, 1, 900), 1.0 + NOISE[:RECENT]]), "min", "stable"),
        (np.concatenate([np.linspace(0, 1, 900), np.linspace(1, 0, RECENT)]), "min", "improving"),
        (np.array([]), "min", "stable"),
        (np.array([1.0]), "min", "stable"),
        (np.array([3.0, 2.0, 1.0]), "min", "stable"),
        (np.arange(8.0), "min", "degrading"),
        (np.array([np.nan, np.inf, *FALLING[:50:2]]), "min", "improving"),
        # Whatever it was before: now it is no number.
        (np.array([*FALLING, np.nan]), "min", "degrading"),
        (np.array([*FALLING, np.inf]), "max", "degrading"),
        (np.array([1.7e308, -1.7e308] * 20), "min", "stable"),
    ],
)
def test_a_direction_is_told_from_noise(values, mode, direction):
    assert trend_of(values, mode).direction == direction


def test_the_test_is_that_of_mann_and_kendall():
    # S = 23 of 28 pairs (one tie of 2), variance (8*7*21 - 2*1*9) / 18; by hand.
    values = np.array([1.0, 2.0, 2.0, 4.0, 3.0, 5.0, 7.0, 6.0])
    found = trend_of(values, "max")
    pairs = [(a, b) for i, a in enumerate(values) for b in values[i + 1 :]]
    total = sum(int(b > a) - int(b < a) for a, b in pairs)
    assert total == 23
    assert found.score == pytest.approx((23 - 1) / math.sqrt((8 * 7 * 21 - 2 * 1 * 9) / 18))
    assert found.direction == "improving"


def test_the_slope_is_the_median_of_all_slopes():
    assert trend_of(np.array([0.0, 1.0, 2.0, 3.0, 400.0]), "min").slope == 1.0


@settings(max_examples=50)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40), st.floats(0.5, 8), st.floats(-9, 9))
def test_what_is_scaled_and_shifted_has_the_same_trend_and_what_is_turned_the_other(
    values, scale, shift
):
    # Halves and small whole numbers: nothing is rounded into a tie.
    series = np.round(np.array(values))
    found = trend_of(series, "min")
    assert trend_of(series * 2.0 ** round(scale) + round(shift), "min").score == found.score
    turned = {"improving": "degrading", "degrading": "improving", "stable": "stable"}
    assert trend_of(series, "max").direction == turned[found.direction]
    assert trend_of(series[::-1], "min").score == pytest.approx(-found.score)
