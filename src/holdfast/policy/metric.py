"""Which metric a policy looks at, and in which direction: named, or taken from the run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from holdfast.errors import ConfigError
from holdfast.model import Metrics, Mode, metric_mode


def finite(metrics: Metrics, name: str) -> float | None:
    """Returns a metric's value, or None where it is missing, NaN or infinite."""
    value = metrics.get(name)
    return value if value is not None and math.isfinite(value) else None


@dataclass(frozen=True, slots=True)
class MetricRef:
    """A metric as a policy names it.

    Attributes:
        name: Its name, or None for the run's metric.
        mode: Its direction where somebody said it; None goes by the name.
    """

    name: str | None = None
    mode: Mode | None = None

    @classmethod
    def of(cls, metric: object, mode: str | None = None, *, asker: str) -> MetricRef:
        """Returns a checked reference.

        A name that does not tell its direction passes here: the run may know it (see `bind`).

        Raises:
            ConfigError: The name is not a non-empty string, or the mode is neither direction.
        """
        if metric is not None and (not isinstance(metric, str) or not metric):
            raise ConfigError(
                f"{asker}: {metric!r} is not a metric's name",
                hint="pass a non-empty string, or None for the run's metric",
            )
        return cls(metric, None if mode is None else metric_mode(metric or "", mode))

    def bind(self, run: MetricRef, *, directed: bool = True, asker: object) -> MetricRef:
        """Returns this reference with what is missing taken from the run's.

        A direction that the name tells anyway stays unsaid, so that a bound policy reads as
        people write it.

        Args:
            run: The run's metric.
            directed: Whether a direction is needed.
            asker: The policy, for the error.

        Raises:
            ConfigError: There is still no metric, or no direction.
        """
        bound = self if self.name is not None else MetricRef(run.name, self.mode)
        bound.required(asker)
        if not directed:
            return bound
        if bound.mode is None and bound.name == run.name and _told_by_name(run.name) != run.mode:
            bound = run
        bound.resolved(asker)
        return bound

    def required(self, asker: object) -> str:
        """Returns the name.

        Raises:
            ConfigError: There is none.
        """
        if self.name is None:
            raise ConfigError(
                f"{asker!r} needs a metric, and neither it nor a run names one",
                hint="pass a metric to the policy, or metric= to the run",
            )
        return self.name

    def resolved(self, asker: object) -> tuple[str, Mode]:
        """Returns name and direction.

        Raises:
            ConfigError: One of them is not known.
        """
        name = self.required(asker)
        return name, self.mode if self.mode is not None else metric_mode(name)

    def names(self) -> frozenset[str]:
        """Returns the name as a set, empty where it is the run's."""
        return frozenset() if self.name is None else frozenset({self.name})


def _told_by_name(metric: str | None) -> Mode | None:
    try:
        return metric_mode(metric or "")
    except ConfigError:
        return None
