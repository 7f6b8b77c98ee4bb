"""A run's course in memory: each row is read once, however often somebody looks."""

from __future__ import annotations

import threading
from array import array
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from holdfast.errors import ConfigError
from holdfast.model import Decision, SaveTimes, StepRow
from holdfast.reading import START, RunReader

_FEWEST = 4

Numbers = npt.NDArray[np.float64]
Steps = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Series:
    """Values of a metric, in the order in which they were reported.

    Attributes:
        steps: Steps, int64, shape ``(points,)``.
        at: When each was reported, float64 seconds since the epoch, shape ``(points,)``.
        values: The values, float64, shape ``(points,)``; NaN and infinities as they were.
        total: How many points there were before any were left out.
    """

    steps: Steps
    at: Numbers
    values: Numbers
    total: int

    def between(self, first: int | None, last: int | None) -> Series:
        """Returns the part whose steps lie between two, both included."""
        chosen = np.ones(len(self.steps), bool)
        if first is not None:
            chosen &= self.steps >= first
        if last is not None:
            chosen &= self.steps <= last
        return self._of(np.flatnonzero(chosen), int(chosen.sum()))

    def thinned(self, most: int) -> Series:
        """Returns at most so many points that look like all of them.

        Extremes stay: of each stretch the lowest and the highest point, and among these the ones
        that keep the line's shape (MinMaxLTTB, Van Der Donckt and others, 2023, arXiv:2305.00332).

        Raises:
            ConfigError: `most` is less than 4, or the library for it is not installed.
        """
        if most < _FEWEST:
            raise ConfigError(
                f"a series of {most} points has no shape", hint=f"ask for {_FEWEST} or more"
            )
        if len(self.steps) <= most:
            return self
        finite = np.flatnonzero(np.isfinite(self.values))
        if len(finite) <= most:
            return self._of(finite, self.total)
        try:
            from tsdownsample import MinMaxLTTBDownsampler
        except ModuleNotFoundError as error:
            raise ConfigError(
                "drawing long series needs tsdownsample, which is not installed",
                hint="pip install 'holdfast[plots]'",
            ) from error
        # By position: two rows may be of one step, and the library wants what rises.
        downsample: Any = MinMaxLTTBDownsampler
        chosen = downsample().downsample(self.values[finite], n_out=most)
        return self._of(finite[chosen.astype(np.int64)], self.total)

    def averaged(self, most: int) -> Numbers:
        """Returns at most so many values, means of groups in a row; NaN where none is finite."""
        groups = np.array_split(self.values, most) if len(self.values) > most else self.values
        return np.array([_mean(np.atleast_1d(group)) for group in groups], np.float64)

    def _of(self, chosen: npt.NDArray[Any], total: int) -> Series:
        return Series(self.steps[chosen], self.at[chosen], self.values[chosen], total)


def _mean(values: Numbers) -> float:
    finite = values[np.isfinite(values)]
    # Divided first: the sum of some of the largest floats is none.
    return float((finite / len(finite)).sum()) if len(finite) else float("nan")


class _Columns:
    """Values of one metric as they come, 24 bytes each."""

    def __init__(self) -> None:
        self._steps, self._at, self._values = array("q"), array("d"), array("d")

    def add(self, step: int, at: float, value: float) -> None:
        self._steps.append(step)
        self._at.append(at)
        self._values.append(value)

    def series(self) -> Series:
        # Copies: an array that somebody views cannot grow.
        return Series(
            np.array(self._steps, np.int64),
            np.array(self._at, np.float64),
            np.array(self._values, np.float64),
            len(self._steps),
        )


class Course:
    """What a run reported and decided, kept up to date by asking for what is new.

    Usable from several threads.

    Args:
        run: The run.
    """

    def __init__(self, run: RunReader) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._forget_steps()
        self._forget_decisions()
        self._forget_times()

    def _forget_steps(self) -> None:
        self._metrics: dict[str, _Columns] = {}
        self._steps = 0
        self._last: StepRow | None = None
        self._steps_read = START

    def _forget_decisions(self) -> None:
        self._decisions: list[Decision] = []
        self._decisions_read = START

    def _forget_times(self) -> None:
        self._times: list[SaveTimes] = []
        self._times_read = START

    def refresh(self) -> bool:
        """Reads what came since the last time; returns whether anything did.

        A long history takes a second the first time, about 5 us for each row.
        """
        with self._lock:
            steps = self._run.steps_since(self._steps_read)
            if steps.anew:
                self._forget_steps()
            self._steps_read = steps.cursor
            for row in steps.rows:
                for name, value in row.metrics.items():
                    if name not in self._metrics:
                        self._metrics[name] = _Columns()
                    self._metrics[name].add(row.step, row.at, value)
            self._steps += len(steps.rows)
            self._last = steps.rows[-1] if steps.rows else self._last
            decisions = self._run.decisions_since(self._decisions_read)
            if decisions.anew:
                self._forget_decisions()
            self._decisions_read = decisions.cursor
            self._decisions += decisions.rows
            times = self._run.times_since(self._times_read)
            if times.anew:
                self._forget_times()
            self._times_read = times.cursor
            self._times += times.rows
            tails = (steps, decisions, times)
            return any(tail.anew or bool(tail.rows) for tail in tails)

    @property
    def name(self) -> str:
        """The run's name."""
        return self._run.name

    @property
    def steps(self) -> int:
        """How many calls of `step` were recorded."""
        return self._steps

    @property
    def last(self) -> StepRow | None:
        """The newest of them."""
        return self._last

    @property
    def metrics(self) -> list[str]:
        """Names of all metrics that were reported, sorted."""
        with self._lock:
            return sorted(self._metrics)

    @property
    def decisions(self) -> list[Decision]:
        """What was decided, oldest first."""
        with self._lock:
            return list(self._decisions)

    @property
    def times(self) -> list[SaveTimes]:
        """How long its saves took, oldest first."""
        with self._lock:
            return list(self._times)

    def series(self, metric: str) -> Series:
        """Returns the values of a metric as far as they were read; none for one never reported."""
        with self._lock:
            columns = self._metrics.get(metric)
            return (columns or _Columns()).series()
