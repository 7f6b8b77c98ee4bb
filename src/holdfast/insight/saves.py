"""How long saves took: what they cost the training, and how soon they were safe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from holdfast.insight.course import Series
from holdfast.model import SaveTimes

_MS = 1000.0


@dataclass(frozen=True, slots=True)
class SaveCosts:
    """How long a run's saves took.

    Attributes:
        stall_ms: How long each held up training, in milliseconds, by step.
        durable_ms: How long each took from then until it was durable, in milliseconds.
    """

    stall_ms: Series
    durable_ms: Series

    @property
    def medians(self) -> tuple[float, float] | None:
        """The median of each, in milliseconds; None where nothing was saved."""
        if not self.stall_ms.total:
            return None
        return float(np.median(self.stall_ms.values)), float(np.median(self.durable_ms.values))

    @property
    def text(self) -> str:
        """All of it in one sentence, with medians; empty where nothing was saved."""
        if self.medians is None:
            return ""
        stall, durable = self.medians
        return (
            f"Training was held up for {stall:.1f} ms, and the checkpoint was durable "
            f"{durable:.1f} ms later (medians of {self.stall_ms.total:,})."
        )


def save_costs(times: Sequence[SaveTimes]) -> SaveCosts:
    """Returns how long saves took, as series.

    Args:
        times: As a run noted them, oldest first.
    """
    steps = np.array([one.step for one in times], np.int64)
    at = np.array([one.at for one in times], np.float64)
    stall = np.array([one.stall_s for one in times], np.float64) * _MS
    durable = np.array([one.write_s for one in times], np.float64) * _MS
    return SaveCosts(Series(steps, at, stall, len(times)), Series(steps, at, durable, len(times)))
