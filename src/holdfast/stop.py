"""When to stop: rules on the metrics reported so far, joined with ``|``.

Every rule answers ``decide(history) -> Verdict``; a run folds it instead (`StopPolicy.advance`),
one report at a time. Rules are pure: a state is a value, and nothing is remembered elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar

from holdfast.model import Mode, Verdict
from holdfast.policy import arguments
from holdfast.policy.metric import MetricRef
from holdfast.policy.stopping import MetricRule, StopPolicy, StopState, own
from holdfast.policy.thresholds import Margin, beats
from holdfast.policy.wording import contrast, expression, number, plural

__all__ = ["StopPolicy", "StopState", "above", "below", "diverged", "patience"]

#: Reports that `diverged` waits for before it says how far is too far.
DIVERGED_AFTER = 10
#: How many times the scale of a healthy beginning a value must be away from the best.
DIVERGED_BY = 10.0


def patience(
    metric: str | None = None, *, checks: int, mode: str | None = None, by: float | str = 0
) -> StopPolicy:
    """Stops when so many consecutive reports of a metric brought no improvement.

    An improvement is measured against the last one, so that many small steps add up. A NaN or an
    infinity is a check without improvement; a step that does not report the metric is no check.

    Args:
        metric: Name of the metric, or None for the run's.
        checks: How many reports to wait.
        mode: ``"min"`` or ``"max"``; by default as the metric's name says.
        by: More than how much better counts: a number, or ``"0.5%"`` of the last improvement.

    Raises:
        ConfigError: An argument cannot be meant.
    """
    asker = "stop.patience"
    return Patience(
        MetricRef.of(metric, mode, asker=asker),
        arguments.count(checks, "checks", asker=asker),
        Margin.of(by, asker=asker),
    )


def below(metric: str | None, value: float) -> StopPolicy:
    """Stops when the newest finite report of a metric is below a value.

    Raises:
        ConfigError: An argument cannot be meant.
    """
    asker = "stop.below"
    return Beyond(
        MetricRef.of(metric, asker=asker), arguments.real(value, "value", asker=asker), -1
    )


def above(metric: str | None, value: float) -> StopPolicy:
    """Stops when the newest finite report of a metric is above a value.

    Raises:
        ConfigError: An argument cannot be meant.
    """
    asker = "stop.above"
    return Beyond(MetricRef.of(metric, asker=asker), arguments.real(value, "value", asker=asker), 1)


def diverged(metric: str | None = None, *, mode: str | None = None) -> StopPolicy:
    """Stops when the newest report is NaN, infinite, or blown up.

    Blown up: worse than the best by more than ten times the scale of the healthy part, which is
    the reports up to the best one and at least the first ten. Its scale is the larger of the
    distance between its best and its worst value, and the best one's absolute value. So neither a
    loss that starts high, nor noise on a plateau, nor a unit makes a difference, and a slow
    blow-up does not raise the bar for itself.

    Args:
        metric: Name of the metric, or None for the run's.
        mode: ``"min"`` or ``"max"``; by default as the metric's name says.

    Raises:
        ConfigError: An argument cannot be meant.
    """
    return Diverged(MetricRef.of(metric, mode, asker="stop.diverged"))


@dataclass(frozen=True, slots=True)
class Checks(StopState):
    """The last improvement, and how many reports came since."""

    best: float | None = None
    without: int = 0


@dataclass(frozen=True, slots=True)
class Patience(MetricRule):
    """See `patience`."""

    metric: MetricRef
    checks: int
    by: Margin = field(default_factory=Margin)

    def start(self) -> StopState:
        """Returns a state without a report."""
        self.metric.resolved(self)
        return Checks()

    def _next(self, state: StopState, value: float) -> StopState:
        before = own(state, Checks, self)
        _, mode = self.metric.resolved(self)
        if beats(value, before.best, mode, margin=self.by):
            return Checks(value)
        return replace(before, without=before.without + 1)

    def _verdict(self, state: StopState) -> Verdict:
        now = own(state, Checks, self)
        name, _ = self.metric.resolved(self)
        best = "a number" if now.best is None else number(now.best)
        stop = now.without >= self.checks
        done = plural(now.without, "check") if stop else f"{now.without} of {self.checks} checks"
        return Verdict(stop, f"patience: {done} without a {name} better than {best}")

    def __repr__(self) -> str:
        by = self.by.given() if self.by != Margin() else None
        return expression(
            "stop.patience", self.metric.name, checks=self.checks, mode=self.metric.mode, by=by
        )


@dataclass(frozen=True, slots=True)
class Newest(StopState):
    """The newest report."""

    value: float | None = None


@dataclass(frozen=True, slots=True)
class Beyond(MetricRule):
    """See `below` and `above`; the side is -1 and 1."""

    directed: ClassVar[bool] = False
    metric: MetricRef
    value: float
    side: int

    def start(self) -> StopState:
        """Returns a state without a report."""
        self.metric.required(self)
        return Newest()

    def _next(self, state: StopState, value: float) -> StopState:
        return replace(own(state, Newest, self), value=value)

    def _verdict(self, state: StopState) -> Verdict:
        name, word = self.metric.required(self), self._word()
        newest = own(state, Newest, self).value
        if newest is None:
            return Verdict(False, f"{word}: {name} was not reported yet")
        shown, limit = contrast(newest, self.value)
        if math.isfinite(newest) and self.side * newest > self.side * self.value:
            return Verdict(True, f"{word}: {name} {shown} is {word} {limit}")
        return Verdict(False, f"{word}: {name} {shown} is not {word} {limit}")

    def _word(self) -> str:
        return "below" if self.side < 0 else "above"

    def __repr__(self) -> str:
        return f"stop.{self._word()}({self.metric.name!r}, {expression('', self.value)[1:-1]})"


@dataclass(frozen=True, slots=True)
class Course(StopState):
    """The course of a metric, turned so that low is good.

    Attributes:
        reports: Finite reports so far.
        best: Lowest of them.
        worst: Highest of them.
        healthy_worst: Highest of the healthy part.
        newest: Newest report, as it came.
    """

    reports: int = 0
    best: float = math.inf
    worst: float = -math.inf
    healthy_worst: float = -math.inf
    newest: float | None = None


@dataclass(frozen=True, slots=True)
class Diverged(MetricRule):
    """See `diverged`."""

    metric: MetricRef

    def start(self) -> StopState:
        """Returns a state without a report."""
        self.metric.resolved(self)
        return Course()

    def _next(self, state: StopState, value: float) -> StopState:
        before = own(state, Course, self)
        if not math.isfinite(value):
            return replace(before, newest=value)
        turned = self._turned(value)
        reports, worst = before.reports + 1, max(before.worst, turned)
        healthy = reports <= DIVERGED_AFTER or turned < before.best
        return Course(
            reports=reports,
            best=min(before.best, turned),
            worst=worst,
            healthy_worst=worst if healthy else before.healthy_worst,
            newest=value,
        )

    def _verdict(self, state: StopState) -> Verdict:
        course = own(state, Course, self)
        name, _ = self.metric.resolved(self)
        newest = course.newest
        if newest is None:
            return Verdict(False, f"diverged: {name} was not reported yet")
        if not math.isfinite(newest):
            return Verdict(True, f"diverged: {name} is {number(newest)}")
        shown, best = contrast(newest, self._turned(course.best))
        scale = max(course.healthy_worst - course.best, abs(course.best))
        away = self._turned(newest) - course.best
        if scale > 0 and away > DIVERGED_BY * scale:
            limit = number(DIVERGED_BY * scale)
            return Verdict(True, f"diverged: {name} {shown}, more than {limit} off the best {best}")
        return Verdict(False, f"diverged: {name} {shown} is sane (best {best})")

    def _turned(self, value: float) -> float:
        mode: Mode = self.metric.resolved(self)[1]
        return value if mode == "min" else -value

    def __repr__(self) -> str:
        return expression("stop.diverged", self.metric.name, mode=self.metric.mode)
