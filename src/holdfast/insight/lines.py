"""A series as a line to draw: few points, and gaps where it has no value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from holdfast.insight.course import Numbers, Series


@dataclass(frozen=True, slots=True)
class Line:
    """What a chart draws of a series.

    Attributes:
        steps: Where its points are, float64, shape ``(points,)``.
        values: The values, float64, shape ``(points,)``; NaN where the line is broken.
    """

    steps: Numbers
    values: Numbers

    @property
    def drawn(self) -> int:
        """How many points have a value."""
        return int(np.isfinite(self.values).sum())

    def at(self, steps: Numbers) -> Numbers:
        """Returns where the line is at some steps, float64 of their shape.

        Between two points it is on the straight line from one to the other, gaps or not, and
        beyond its ends at their height. NaN where the line has no point at all.
        """
        finite = np.isfinite(self.values)
        if not finite.any():
            return np.full(len(steps), np.nan)
        # A replay after a rollback may go back; of two values at a step the later one counts.
        x, y = self.steps[finite], self.values[finite]
        order = np.argsort(x, kind="stable")
        x, y = x[order], y[order]
        last = np.append(np.diff(x) > 0, True)
        found: Numbers = np.interp(steps, x[last], y[last])
        return found


def line_of(series: Series, most: int) -> Line:
    """Returns a series as a line of at most so many points, and the gaps between them.

    Args:
        series: What was reported.
        most: Points with a value, at least 4; see `Series.thinned` for which ones stay.

    Raises:
        ConfigError: As `Series.thinned`.
    """
    values = np.where(np.isfinite(series.values), series.values, np.nan)
    # Thinned by position, which comes back in place of the time: steps may repeat.
    places = np.arange(len(values), dtype=np.float64)
    chosen = Series(series.steps, places, values, series.total).thinned(most).at.astype(np.int64)
    missing = np.cumsum(np.isnan(values))
    if len(chosen) == len(values) or not len(chosen):
        return Line(series.steps[chosen].astype(np.float64), values[chosen])
    broken = np.flatnonzero(np.diff(missing[chosen])) + 1
    return Line(
        np.insert(series.steps[chosen].astype(np.float64), broken, series.steps[chosen][broken]),
        np.insert(values[chosen], broken, np.nan),
    )
