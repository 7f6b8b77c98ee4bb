"""Save rules that look at steps and metrics."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from holdfast.model import Moment, Verdict
from holdfast.policy.metric import MetricRef, finite
from holdfast.policy.policy import OfMetric
from holdfast.policy.saving import Code, Rule
from holdfast.policy.thresholds import Margin, beats
from holdfast.policy.wording import contrast, duration, expression, number, plural


@dataclass(frozen=True, slots=True)
class Every(Rule):
    """Due when any given distance from the last save is reached; see `holdfast.when.every`."""

    code: ClassVar[Code] = "interval"
    steps: int | None
    epochs: int | None
    seconds: float | None

    def _judge(self, moment: Moment) -> Verdict:
        judged = []
        if self.steps is not None:
            judged.append(self._by_steps(moment, self.steps))
        if self.epochs is not None:
            judged.append(self._by_epochs(moment, self.epochs))
        if self.seconds is not None:
            judged.append(self._by_seconds(moment, self.seconds))
        due = [text for is_due, text in judged if is_due]
        return self._because(bool(due), ", ".join(due or [text for _, text in judged]))

    def _by_steps(self, moment: Moment, steps: int) -> tuple[bool, str]:
        last = moment.last_saved
        passed = moment.step - (-1 if last is None else last.step)
        if passed < steps:
            return False, f"{passed} of {plural(steps, 'step')}"
        behind = "without a save yet" if last is None else f"since step {last.step}"
        return True, f"{plural(passed, 'step')} {behind}"

    def _by_epochs(self, moment: Moment, epochs: int) -> tuple[bool, str]:
        if moment.epoch is None:
            return False, "no epoch was passed"
        last = None if moment.last_saved is None else moment.last_saved.epoch
        passed = moment.epoch - (-1 if last is None else last)
        if passed < epochs:
            return False, f"{passed} of {plural(epochs, 'epoch')}"
        behind = "without a save yet" if last is None else f"since epoch {last}"
        return True, f"{plural(passed, 'epoch')} {behind}"

    def _by_seconds(self, moment: Moment, seconds: float) -> tuple[bool, str]:
        last = moment.last_saved
        since = moment.started_at if last is None else last.created_at
        if since is None:
            return True, f"no save yet, one every {duration(seconds)}"
        passed = moment.now - since
        if passed < seconds:
            return False, f"{duration(passed)} of {duration(seconds)}"
        return True, f"{duration(passed)} since {'the start' if last is None else 'the last save'}"

    def __repr__(self) -> str:
        return expression("when.every", steps=self.steps, epochs=self.epochs, seconds=self.seconds)


@dataclass(frozen=True, slots=True)
class Improved(Rule, OfMetric):
    """Due when a metric beats its best so far; see `holdfast.when.improved`."""

    code: ClassVar[Code] = "improved"
    metric: MetricRef
    by: Margin = field(default_factory=Margin)

    def _judge(self, moment: Moment) -> Verdict:
        name, mode = self.metric.resolved(self)
        value = moment.metrics.get(name)
        if value is None:
            return self._because(False, f"{name} was not reported at this step")
        if finite(moment.metrics, name) is None:
            return self._because(False, f"{name} is {number(value)}")
        lowest, highest = moment.best.get(name, (None, None))
        best = lowest if mode == "min" else highest
        if best is None or not math.isfinite(best):
            return self._because(True, f"{name} {number(value)} (the first)")
        shown, before = contrast(value, best)
        if beats(value, best, mode, margin=self.by):
            return self._because(True, f"{name} {shown} (best so far {before})")
        margin = f" by {self.by.given()}" if self.by.amount else ""
        return self._because(False, f"{name} {shown} is no better than {before}{margin}")

    def __repr__(self) -> str:
        by = self.by.given() if self.by != Margin() else None
        return expression("when.improved", self.metric.name, mode=self.metric.mode, by=by)


@dataclass(frozen=True, slots=True)
class Changed(Rule, OfMetric):
    """Due when a metric moved since the last save; see `holdfast.when.changed`."""

    code: ClassVar[Code] = "changed"
    directed: ClassVar[bool] = False
    metric: MetricRef
    by: Margin

    def _judge(self, moment: Moment) -> Verdict:
        name = self.metric.required(self)
        value = moment.metrics.get(name)
        if value is None:
            return self._because(False, f"{name} was not reported at this step")
        if finite(moment.metrics, name) is None:
            return self._because(False, f"{name} is {number(value)}")
        last = moment.last_saved
        before = None if last is None else finite(last.metrics, name)
        if before is None:
            return self._because(True, f"{name} {number(value)} (nothing saved to compare with)")
        change = abs(value - before)
        shown, reference = contrast(value, before)
        if change > 0 and change >= self.by.width(before):
            return self._because(True, f"{name} {shown} (at the last save {reference})")
        return self._because(
            False, f"{name} {shown} is within {self.by.given()} of {reference} at the last save"
        )

    def __repr__(self) -> str:
        return expression("when.changed", self.metric.name, by=self.by.given())


@dataclass(frozen=True, slots=True)
class At(Rule):
    """Due at the first moment at or past each given step; see `holdfast.when.at`."""

    code: ClassVar[Code] = "at"
    steps: tuple[int, ...]

    def _judge(self, moment: Moment) -> Verdict:
        last = -1 if moment.last_saved is None else moment.last_saved.step
        reached = [step for step in self.steps if last < step <= moment.step]
        if reached:
            return self._because(True, f"step {reached[-1]} is reached (step {moment.step})")
        ahead = [step for step in self.steps if step > moment.step]
        if ahead:
            return self._because(False, f"the next is step {ahead[0]}")
        return self._because(False, f"the last was step {self.steps[-1]}")

    def __repr__(self) -> str:
        return expression("when.at", *self.steps)


@dataclass(frozen=True, slots=True)
class Always(Rule):
    """Due at every step; see `holdfast.when.always`."""

    code: ClassVar[Code] = "always"

    def _judge(self, moment: Moment) -> Verdict:
        return self._because(True, f"step {moment.step}")

    def __repr__(self) -> str:
        return "when.always()"


@dataclass(frozen=True, slots=True)
class Never(Rule):
    """Never due; see `holdfast.when.never`."""

    code: ClassVar[Code] = "never"

    def _judge(self, moment: Moment) -> Verdict:
        return self._because(False, f"step {moment.step}; saves are asked for by hand")

    def __repr__(self) -> str:
        return "when.never()"
