"""When to save: small rules on numbers, joined with ``|`` (either), ``&`` (both), ``~`` (not).

Every rule answers ``decide(moment) -> Verdict`` with a reason whose first word is its code. Rules
are pure: the time is part of the moment, and asking twice gives the same answer.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable

from holdfast.errors import ConfigError
from holdfast.policy import arguments
from holdfast.policy.metric import MetricRef
from holdfast.policy.save_events import Budget, Deadline, Interrupted, Preempted
from holdfast.policy.save_rules import Always, At, Changed, Every, Improved, Never
from holdfast.policy.saving import SavePolicy
from holdfast.policy.thresholds import Margin

__all__ = [
    "SavePolicy",
    "always",
    "at",
    "budget",
    "changed",
    "deadline",
    "every",
    "improved",
    "interrupted",
    "never",
    "preempted",
]

_UNCATCHABLE = frozenset({"KILL", "STOP"})


def every(
    steps: int | None = None, epochs: int | None = None, seconds: float | None = None
) -> SavePolicy:
    """Saves at regular distances; with several given, when any of them is reached.

    Args:
        steps: At least this many steps lie behind the last save (or behind step -1).
        epochs: The same in epochs (or behind epoch -1); a step without an epoch is not due.
        seconds: At least this long since the last save; where there is none, since the run was
            opened, or at once when that is not known.

    Raises:
        ConfigError: None is given, or one is not positive.
    """
    if steps is None and epochs is None and seconds is None:
        raise ConfigError(
            "when.every() does not say how often", hint="pass steps=, epochs= or seconds="
        )
    asker = "when.every"
    never_hint = "pass an int of at least 1; to save never use when.never()"
    return Every(
        None if steps is None else arguments.count(steps, "steps", asker=asker, hint=never_hint),
        None if epochs is None else arguments.count(epochs, "epochs", asker=asker, hint=never_hint),
        None if seconds is None else arguments.positive(seconds, "seconds", asker=asker),
    )


def improved(
    metric: str | None = None, *, mode: str | None = None, by: float | str = 0
) -> SavePolicy:
    """Saves when a metric reported at this very step beats the best so far.

    Strict: an equal value is no improvement. The first finite number is one; a NaN, an infinity
    or a missing value never is.

    Args:
        metric: Its name, or None for the run's metric.
        mode: ``"min"`` or ``"max"``; by default as its name says.
        by: More than how much better it must be: a number, or ``"0.5%"`` of the best so far.

    Raises:
        ConfigError: An argument cannot be meant.
    """
    asker = "when.improved"
    return Improved(MetricRef.of(metric, mode, asker=asker), Margin.of(by, asker=asker))


def changed(metric: str | None, by: float | str) -> SavePolicy:
    """Saves when a metric moved, in either direction, since the last save.

    The first finite number, with nothing saved to compare it with, is a change.

    Args:
        metric: Its name, or None for the run's metric.
        by: At least how much: a number, or ``"5%"`` of the saved value. With 0 any change counts.

    Raises:
        ConfigError: An argument cannot be meant.
    """
    asker = "when.changed"
    return Changed(MetricRef.of(metric, asker=asker), Margin.of(by, asker=asker))


def at(*steps: int) -> SavePolicy:
    """Saves at the first moment at or past each of the steps.

    Raises:
        ConfigError: No step is given, or one is negative.
    """
    if not steps:
        raise ConfigError("when.at() names no step", hint="pass the steps: when.at(1000, 5000)")
    asker = "when.at"
    checked = {arguments.count(step, "step", asker=asker, least=0) for step in steps}
    return At(tuple(sorted(checked)))


def preempted(signals: Iterable[str] = ("TERM",)) -> SavePolicy:
    """Saves when a signal asked the process to end.

    Args:
        signals: Names of signals, with or without ``SIG``.

    Raises:
        ConfigError: A name is no signal of this system, or one that nobody can catch.
    """
    if isinstance(signals, str):
        raise ConfigError(
            f"when.preempted: signals={signals!r} is one string",
            hint=f"pass a tuple of names: signals=({signals!r},)",
        )
    asker = "when.preempted"
    names = tuple(
        dict.fromkeys(
            name.removeprefix("SIG") for name in arguments.names(signals, "a signal", asker=asker)
        )
    )
    for name in names:
        if f"SIG{name}" not in signal.Signals.__members__:
            raise ConfigError(
                f"{asker}: {name!r} is no signal here", hint='pass names such as "TERM" or "USR1"'
            )
        if name in _UNCATCHABLE:
            raise ConfigError(
                f"{asker}: SIG{name} cannot be caught", hint='pass names such as "TERM" or "USR1"'
            )
    if not names:
        raise ConfigError(f"{asker}: no signal is named", hint='pass names such as "TERM"')
    return Preempted(names)


def interrupted() -> SavePolicy:
    """Saves when Ctrl-C or an exception ends the loop at a step boundary."""
    return Interrupted()


def deadline(minutes: float) -> SavePolicy:
    """Saves once, early enough to be durable when the allotted time ends.

    It is due with twice the time that recent saves took (stall and write) plus 30 s left, at most
    half of the whole time.

    Args:
        minutes: Allotted time, counted from the opening of the run.

    Raises:
        ConfigError: It is not a positive number.
    """
    return Deadline(arguments.positive(minutes, "minutes", asker="when.deadline"))


def budget(overhead: float | str) -> SavePolicy:
    """Saves as often as a share of the training time allows.

    Due when the time since the last save is at least the stall of recent saves divided by the
    share, and at least what a save takes until it is durable.

    Args:
        overhead: Share of the time that saves may stall training: ``0.02`` or ``"2%"``.

    Raises:
        ConfigError: It is not above 0 and at most 1.
    """
    asker = "when.budget"
    hint = 'pass a share such as 0.02 or "2%"'
    if isinstance(overhead, str):
        try:
            share = Margin.of(overhead, asker=asker).width(1.0)
        except ConfigError as error:
            raise ConfigError(f"{asker}: overhead={overhead!r} is no share", hint=hint) from error
    else:
        share = arguments.real(overhead, "overhead", asker=asker)
    if not 0 < share <= 1:
        raise ConfigError(f"{asker}: overhead={overhead!r} is not above 0 and up to 1", hint=hint)
    return Budget(share)


def always() -> SavePolicy:
    """Saves at every step."""
    return Always()


def never() -> SavePolicy:
    """Saves only what is asked for by `Run.save` and `Run.finish`."""
    return Never()
