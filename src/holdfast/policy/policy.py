"""What save, keep and stop policies have in common: they are values that a run completes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self, cast

from holdfast.errors import ConfigError
from holdfast.model import Mode
from holdfast.policy.metric import MetricRef


class Policy(ABC):
    """A frozen value whose `repr` is the expression that makes it."""

    __slots__ = ()

    @abstractmethod
    def __repr__(self) -> str: ...

    def bind(self, metric: str | None, mode: Mode | None) -> Self:
        """Returns this policy with what it leaves open taken from the run.

        A metric that the policy names goes by the direction given with it, else by the run's if
        it is the run's metric, else by what its name tells.

        Args:
            metric: The run's metric.
            mode: Direction of the run's metric; None goes by its name.

        Raises:
            ConfigError: A metric or a direction that the policy needs is still missing.
        """
        return self._bound(MetricRef(metric, mode))

    def metrics(self) -> frozenset[str]:
        """Returns the names of the metrics that it looks at, as far as it knows them."""
        return self._metrics().union(*(part.metrics() for part in self._parts()))

    def _parts(self) -> Sequence[Policy]:
        return ()

    def _metrics(self) -> frozenset[str]:
        return frozenset()

    def _bound(self, _run: MetricRef) -> Self:
        return self

    def __bool__(self) -> bool:
        # `a or b` would silently forget b, and `if policy:` says nothing about what it does.
        raise ConfigError(
            f"{self!r} is a policy and has no truth value",
            hint="join policies with | and &, not with `or` and `and`; "
            "test for its absence with `is None`",
        )


class OfMetric(Policy):
    """A policy that looks at one metric: the one it names, or the run's."""

    __slots__ = ()

    metric: MetricRef
    #: Whether it asks which direction is better.
    directed: ClassVar[bool] = True

    def _metrics(self) -> frozenset[str]:
        return self.metric.names()

    def _bound(self, run: MetricRef) -> Self:
        bound = self.metric.bind(run, directed=self.directed, asker=self)
        # Every subclass is a dataclass; what mypy is shown of this one cannot say so.
        return cast("Self", replace(cast("Any", self), metric=bound))


def same_kind(left: object, right: object, kind: type, *, sign: str) -> None:
    """Checks the operands of a policy operator.

    Raises:
        ConfigError: One of them is not a policy of that kind.
    """
    for operand in (left, right):
        if not isinstance(operand, kind):
            raise ConfigError(
                f"{left!r} {sign} {right!r}: {type(operand).__name__} is no {kind.__name__}",
                hint="join policies of one module only: when with when, keep with keep, "
                "stop with stop",
            )
