"""Ready-made pairs of policies: when to save, what to keep."""

from __future__ import annotations

from dataclasses import dataclass

from holdfast import keep, when
from holdfast.errors import ConfigError
from holdfast.policy.retention import KeepPolicy
from holdfast.policy.saving import SavePolicy

__all__ = ["PRESETS", "Preset", "preset", "preset_numbers"]


@dataclass(frozen=True, slots=True)
class Preset:
    """The numbers of a preset.

    Attributes:
        keep: How many checkpoints to keep, the best ones.
        every: Steps after which one is saved although nothing improved.
        by: How much better than the best so far counts as improved.
    """

    keep: int
    every: int
    by: str


PRESETS = {
    "conservative": Preset(keep=20, every=50, by="0.1%"),
    "balanced": Preset(keep=10, every=100, by="0.5%"),
    "aggressive": Preset(keep=5, every=200, by="1.0%"),
}


def preset_numbers(name: str) -> Preset:
    """Returns the numbers of a preset.

    Raises:
        ConfigError: There is no such preset.
    """
    numbers = PRESETS.get(name)
    if numbers is None:
        raise ConfigError(
            f"there is no preset {name!r}", hint=f"the presets are {', '.join(PRESETS)}"
        )
    return numbers


def preset(name: str, *, metric: str | None = None) -> tuple[SavePolicy, KeepPolicy]:
    """Returns when to save and what to keep, by name.

    Each saves when the metric improved, and now and then as a backup, and keeps the best.

    Args:
        name: ``"conservative"``, ``"balanced"`` or ``"aggressive"`` (about disk space: it keeps
            the fewest).
        metric: What improves and what is best; None takes the run's metric.

    Raises:
        ConfigError: There is no such preset.
    """
    numbers = preset_numbers(name)
    save = when.improved(metric, by=numbers.by) | when.every(steps=numbers.every)
    return save, keep.best(numbers.keep, metric)
