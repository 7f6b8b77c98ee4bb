"""What to keep: rules on a run's checkpoints, joined with ``|``, thinned, capped.

Every rule answers ``plan(checkpoints) -> Plan``. Rules are pure: the time is an argument, and what
a plan says does not depend on the order in which checkpoints are passed.
"""

from __future__ import annotations

from collections.abc import Mapping

from holdfast.errors import ConfigError
from holdfast.policy import arguments
from holdfast.policy.keep_windows import (
    Best,
    Everything,
    FirstOfEvery,
    Latest,
    NewerThan,
    Nothing,
    Pareto,
    Tagged,
    Unscored,
)
from holdfast.policy.metric import MetricRef
from holdfast.policy.ranking import Ties
from holdfast.policy.retention import KeepPolicy

__all__ = [
    "KeepPolicy",
    "all",
    "best",
    "every",
    "latest",
    "newer_than",
    "none",
    "pareto",
    "tagged",
    "unscored",
]

_NONE_HINT = "pass an int of at least 1; to keep nothing on purpose use keep.none()"


def best(
    n: int, metric: str | None = None, *, mode: str | None = None, ties: Ties = "incumbent"
) -> KeepPolicy:
    """Keeps the n best by a metric; those without a finite value rank last, newest first.

    Args:
        n: How many.
        metric: Name of the metric, or None for the run's.
        mode: ``"min"`` or ``"max"``; by default as the metric's name says.
        ties: Of equal values, whether the ``"incumbent"`` or the ``"newest"`` stays.

    Raises:
        ConfigError: An argument cannot be meant.
    """
    asker = "keep.best"
    if ties not in {"incumbent", "newest"}:
        raise ConfigError(
            f"{asker}: ties={ties!r} is no rule for equal values",
            hint='pass ties="incumbent" or ties="newest"',
        )
    checked = arguments.count(n, "n", asker=asker, hint=_NONE_HINT)
    return Best(checked, MetricRef.of(metric, mode, asker=asker), ties)


def latest(n: int) -> KeepPolicy:
    """Keeps the n that were committed last, whatever their steps.

    Raises:
        ConfigError: n is not a count.
    """
    return Latest(arguments.count(n, "n", asker="keep.latest", hint=_NONE_HINT))


def every(steps: int | None = None, seconds: float | None = None) -> KeepPolicy:
    """Keeps the first checkpoint of each window; with both given, of either.

    Args:
        steps: Windows of n steps, [k n, (k+1) n): steps need not fall on multiples.
        seconds: Windows of time, aligned to the Unix epoch.

    Raises:
        ConfigError: None is given, or one is not positive.
    """
    asker = "keep.every"
    if steps is None and seconds is None:
        raise ConfigError(f"{asker}() does not say how often", hint="pass steps= or seconds=")
    return FirstOfEvery(
        None if steps is None else arguments.count(steps, "steps", asker=asker),
        None if seconds is None else arguments.positive(seconds, "seconds", asker=asker),
    )


def newer_than(days: float = 0, hours: float = 0) -> KeepPolicy:
    """Keeps what is younger than so many days plus so many hours.

    Raises:
        ConfigError: Together they are not above zero, or one is negative.
    """
    asker = "keep.newer_than"
    whole_days = arguments.real(days, "days", asker=asker)
    rest = arguments.real(hours, "hours", asker=asker)
    if whole_days < 0 or rest < 0 or whole_days + rest == 0:
        raise ConfigError(
            f"{asker}(days={days!r}, hours={hours!r}) is no age",
            hint="pass days= or hours= above 0",
        )
    return NewerThan(whole_days, rest)


def tagged(*names: str) -> KeepPolicy:
    """Keeps what carries one of the tags; without names, what carries any.

    Raises:
        ConfigError: A name is empty or not a string.
    """
    return Tagged(arguments.names(names, "a tag", asker="keep.tagged"))


def unscored(metric: str | None, hours: float) -> KeepPolicy:
    """Keeps what has no value of a metric yet, as long as it is young.

    Args:
        metric: Name of the metric, or None for the run's.
        hours: How long to wait for it.

    Raises:
        ConfigError: An argument cannot be meant.
    """
    asker = "keep.unscored"
    checked = MetricRef.of(metric, asker=asker)
    return Unscored(checked, arguments.positive(hours, "hours", asker=asker))


def pareto(*metrics: str, modes: Mapping[str, str] | None = None) -> KeepPolicy:
    """Keeps what no other checkpoint is as good as in every metric; of equals, the incumbent.

    A checkpoint that lacks one of the metrics, or has a NaN or an infinity there, is never kept.

    Args:
        metrics: Names of the metrics.
        modes: Directions by name, where a metric's name does not tell.

    Raises:
        ConfigError: No metric is named, or a direction is given for another one.
    """
    asker = "keep.pareto"
    names = arguments.names(metrics, "a metric's name", asker=asker)
    directions = dict(modes or {})
    if not names:
        raise ConfigError(
            f"{asker}() names no metric", hint='pass them: keep.pareto("loss", "acc")'
        )
    for name in directions:
        if name not in names:
            raise ConfigError(
                f"{asker}: modes names {name!r}, which is none of its metrics",
                hint=f"name one of {', '.join(names)}",
            )
    return Pareto(tuple(MetricRef.of(name, directions.get(name), asker=asker) for name in names))


def none() -> KeepPolicy:
    """Keeps nothing, not even the newest; pinned and awaited ones stay. ``none() | x`` is x."""
    return Nothing()


def all() -> KeepPolicy:
    """Keeps everything."""
    return Everything()
