"""Stop policies: what all of them can do, how they join, and how they read a history."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Self, TypeAlias, TypeVar

from holdfast.errors import ConfigError
from holdfast.model import Metrics, Verdict
from holdfast.policy import verdicts
from holdfast.policy.metric import MetricRef
from holdfast.policy.policy import OfMetric, Policy, same_kind

Report: TypeAlias = "float | tuple[int, float]"
#: Metric to its reports in order; or the reports of the one metric that a policy looks at; or
#: the reports of each step as a mapping. A report is a number, or a pair of step and number.
History: TypeAlias = "Mapping[str, Sequence[Report]] | Sequence[Report | Metrics]"

_PAIR = 2


class StopState:
    """What a stop policy remembers between reports: an immutable value."""

    __slots__ = ()


State = TypeVar("State", bound=StopState)


class StopPolicy(Policy):
    """Says whether training should stop. Made by the functions of `holdfast.stop`.

    A policy is a fold over reports: `start` gives a state, `advance` takes it one report further,
    so that a run never reads its history again. ``a | b`` stops when either does.
    """

    __slots__ = ()

    @abstractmethod
    def start(self) -> StopState:
        """Returns the state before the first report.

        Raises:
            ConfigError: The policy needs a metric or its direction and was not told.
        """

    def advance(self, state: StopState, metrics: Metrics) -> tuple[StopState, Verdict]:
        """Returns the state after what one step reported, and whether to stop.

        A step that does not report a policy's metric leaves its state and its answer as they are.

        Args:
            state: From `start` or the last `advance` of an equal policy.
            metrics: Reported at this step, flat.

        Raises:
            ConfigError: The state is that of another policy.
        """
        after = self._after(state, metrics)
        return after, self._verdict(after)

    def fold(self, reports: Iterable[Metrics]) -> tuple[StopState, Verdict]:
        """Returns state and verdict after a sequence of steps, each as its metrics."""
        state = self.start()
        for metrics in reports:
            state = self._after(state, metrics)
        return state, self._verdict(state)

    def decide(self, history: History) -> Verdict:
        """Returns whether to stop after a history.

        Args:
            history: A mapping of metric to its reports in order, each a number or a pair of step
                and number; for a policy that looks at one metric, its reports alone; or a
                sequence with one mapping of metrics per step.

        Raises:
            ConfigError: The policy needs a metric and was not told, or the history is bare
                numbers and the policy looks at several metrics.
        """
        self.start()
        return self.fold(self._reports(history))[1]

    def _reports(self, history: History) -> Iterator[Metrics]:
        if isinstance(history, Mapping):
            # Each rule looks at one metric only, so how metrics interleave changes nothing.
            for name, reports in history.items():
                for report in reports:
                    yield {name: _value(report)}
            return
        names = self.metrics()
        for entry in history:
            if isinstance(entry, Mapping):
                yield entry
                continue
            if len(names) != 1:
                raise ConfigError(
                    f"{self!r} looks at {', '.join(sorted(names))}: bare numbers do not say whose "
                    "they are",
                    hint='pass a mapping: decide({"loss": [0.4, 0.3]})',
                )
            yield {next(iter(names)): _value(entry)}

    @abstractmethod
    def _after(self, state: StopState, metrics: Metrics) -> StopState: ...

    @abstractmethod
    def _verdict(self, state: StopState) -> Verdict: ...

    def _parts(self) -> Sequence[StopPolicy]:
        return ()

    def __or__(self, other: StopPolicy) -> StopPolicy:
        same_kind(self, other, StopPolicy, sign="|")
        return AnyOf((*_flat(self), *_flat(other)))

    # Reached only when the left operand is no stop policy: the error is the answer.
    def __ror__(self, other: object) -> StopPolicy:
        same_kind(other, self, StopPolicy, sign="|")
        return self


class MetricRule(OfMetric, StopPolicy):
    """A stop policy that looks at one metric."""

    __slots__ = ()

    def _after(self, state: StopState, metrics: Metrics) -> StopState:
        value = metrics.get(self.metric.required(self))
        return state if value is None else self._next(state, value)

    @abstractmethod
    def _next(self, state: StopState, value: float) -> StopState:
        """Returns the state after one more value of the metric, which may be NaN."""


@dataclass(frozen=True, slots=True)
class States(StopState):
    """The states of joined policies, in their order."""

    parts: tuple[StopState, ...]


@dataclass(frozen=True, slots=True)
class AnyOf(StopPolicy):
    """Stops when one of its parts does."""

    parts: tuple[StopPolicy, ...]

    def start(self) -> StopState:
        """Returns the first states of its parts."""
        return States(tuple(part.start() for part in self.parts))

    def _after(self, state: StopState, metrics: Metrics) -> StopState:
        states = own(state, States, self).parts
        return States(
            tuple(
                part._after(inner, metrics) for part, inner in zip(self.parts, states, strict=True)
            )
        )

    def _verdict(self, state: StopState) -> Verdict:
        states = own(state, States, self).parts
        return verdicts.any_of(
            [part._verdict(inner) for part, inner in zip(self.parts, states, strict=True)]
        )

    def _parts(self) -> Sequence[StopPolicy]:
        return self.parts

    def _bound(self, run: MetricRef) -> Self:
        return replace(self, parts=tuple(part.bind(run.name, run.mode) for part in self.parts))

    def __repr__(self) -> str:
        return " | ".join(repr(part) for part in self.parts)


def own(state: StopState, kind: type[State], policy: StopPolicy) -> State:
    """Returns a state as the kind that a policy makes.

    Raises:
        ConfigError: It is that of another policy.
    """
    if not isinstance(state, kind):
        raise ConfigError(
            f"{state!r} is not a state of {policy!r}",
            hint="begin with its start(), and fold the history again",
        )
    return state


def _flat(policy: StopPolicy) -> tuple[StopPolicy, ...]:
    return policy.parts if isinstance(policy, AnyOf) else (policy,)


def _value(report: object) -> float:
    value = report[-1] if isinstance(report, (tuple, list)) and len(report) == _PAIR else report
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ConfigError(
            f"{report!r} is not a report", hint="pass a number, or a pair of step and number"
        )
    return float(value)
