"""Whether a metric gets better, told from its noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from holdfast.insight.course import Numbers
from holdfast.model import Mode

Direction = Literal["improving", "stable", "degrading"]

#: How many of the newest values are looked at.
RECENT: Final = 200
#: With fewer, no order of the values is unlikely enough by chance.
_FEWEST: Final = 8
#: Two-sided, 5%: the 97.5th percentile of the standard normal distribution.
_SIGNIFICANT: Final = 1.96


@dataclass(frozen=True, slots=True)
class Trend:
    """How a metric goes.

    Attributes:
        direction: Whether it gets better, worse, or neither that chance would not explain.
        slope: Median of the slopes between all pairs of values, per value; 0.0 with fewer than two.
        score: The test's statistic: standard deviations from "no trend"; above 0 it rises.
        values: How many values were looked at.
    """

    direction: Direction
    slope: float
    score: float
    values: int


def trend_of(values: Numbers, mode: Mode) -> Trend:
    """Returns how a metric goes, by its newest `RECENT` values.

    The test is that of Mann (Econometrica 13, 1945) and Kendall (Rank Correlation Methods, 1975):
    of n values, S = sum over i < j of sign(x_j - x_i), with the variance
    (n(n-1)(2n+5) - sum over ties t(t-1)(2t+5)) / 18 where there is no trend; the score is
    (S - sign(S)) / sqrt(variance). Beyond 1.96 either way (5%) there is one. The slope is Sen's
    (J. Am. Stat. Assoc. 63, 1968). Both go by ranks and medians: a spike moves neither. Values that
    depend on the ones before them make a trend a little easier to see than the test says.

    A training whose newest value is NaN or infinite degrades, whatever it was before.

    Args:
        values: Its values in order, shape ``(points,)``.
        mode: Which way round it is better.
    """
    recent = values[-RECENT:]
    finite = recent[np.isfinite(recent)]
    if len(recent) and not math.isfinite(recent[-1]):
        return Trend("degrading", 0.0, 0.0, len(finite))
    slope, score = _slope(finite), _score(finite)
    if abs(score) <= _SIGNIFICANT:
        return Trend("stable", slope, score, len(finite))
    better = (score < 0) == (mode == "min")
    return Trend("improving" if better else "degrading", slope, score, len(finite))


def _score(values: Numbers) -> float:
    count = len(values)
    if count < _FEWEST:
        return 0.0
    above = np.greater(values[None, :], values[:, None])
    below = np.less(values[None, :], values[:, None])
    total = int(np.triu(above, 1).sum()) - int(np.triu(below, 1).sum())
    _, ties = np.unique(values, return_counts=True)
    variance = (_spread(count) - sum(_spread(int(tie)) for tie in ties)) / 18
    if variance == 0 or total == 0:
        return 0.0
    return (total - math.copysign(1, total)) / math.sqrt(variance)


def _spread(count: int) -> int:
    return count * (count - 1) * (2 * count + 5)


def _slope(values: Numbers) -> float:
    if len(values) < 2:
        return 0.0
    first, second = np.triu_indices(len(values), 1)
    # Where the values are the largest floats, their difference is infinite, and so is the slope.
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.median((values[second] - values[first]) / (second - first)))
