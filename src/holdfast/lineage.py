"""What a save policy measures against: the checkpoints that the present state descends from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from holdfast.lifecycle.history import RunHistory
from holdfast.model import CheckpointInfo


class Lineage:
    """The chain of checkpoints behind the present state, and the best values among them.

    Deleted ones count, and so do saves in flight; a save that fails is taken out again.

    Attributes:
        last: The newest checkpoint of the chain; None at its start.
        best: Metric to ``(lowest, highest)`` over the chain; finite values only.
    """

    def __init__(self) -> None:
        self._chain: dict[str, CheckpointInfo] = {}
        self.best: dict[str, tuple[float, float]] = {}

    @classmethod
    def behind(cls, history: RunHistory, checkpoint_id: str | None) -> Lineage:
        """Returns the lineage that ends in a checkpoint, from what the journal tells of it."""
        chain: list[CheckpointInfo] = []
        seen: set[str] = set()
        while checkpoint_id is not None and checkpoint_id not in seen:
            seen.add(checkpoint_id)
            note = history.saves.get(checkpoint_id)
            if note is None:
                break
            chain.append(history.overlay(note.info))
            checkpoint_id = note.info.parent
        lineage = cls()
        for info in reversed(chain):
            lineage.add(info)
        return lineage

    @property
    def last(self) -> CheckpointInfo | None:
        """The newest checkpoint of the chain."""
        return next(reversed(self._chain.values()), None)

    def add(self, info: CheckpointInfo) -> None:
        """Appends a checkpoint, durable or on its way."""
        self._chain[info.id] = info
        self._count(info.metrics)

    def remove(self, checkpoint_id: str) -> None:
        """Takes out a save that failed: the best values are as if it had never been."""
        if self._chain.pop(checkpoint_id, None) is not None:
            self._recount()

    def amend(self, checkpoint_id: str, metrics: Mapping[str, float]) -> None:
        """Takes note of further metrics of a checkpoint, if it is one of the chain."""
        info = self._chain.get(checkpoint_id)
        if info is not None:
            self._chain[checkpoint_id] = replace(info, metrics={**info.metrics, **metrics})
            self._recount()

    def _recount(self) -> None:
        self.best = {}
        for info in self._chain.values():
            self._count(info.metrics)

    def _count(self, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            if math.isfinite(value):
                low, high = self.best.get(name, (value, value))
                self.best[name] = (min(low, value), max(high, value))
