"""What takes space: per run, in all, and against a budget. Shared bytes are counted once."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from holdfast.catalog import RunUsage
from holdfast.errors import NotFoundError
from holdfast.lifecycle.place import Place
from holdfast.policy.thresholds import Size


@dataclass(frozen=True, slots=True)
class Budget:
    """Stored bytes against what they may be.

    Attributes:
        used_nbytes: Bytes that are stored.
        limit_nbytes: Bytes that may be.
    """

    used_nbytes: int
    limit_nbytes: int

    @property
    def share(self) -> float:
        """Used bytes as a share of the limit; above 1 when it is exceeded."""
        return self.used_nbytes / self.limit_nbytes

    @property
    def over_nbytes(self) -> int:
        """Bytes above the limit; 0 within it."""
        return max(0, self.used_nbytes - self.limit_nbytes)

    @property
    def left_nbytes(self) -> int:
        """Bytes that may still be stored; 0 when the limit is exceeded."""
        return max(0, self.limit_nbytes - self.used_nbytes)

    @property
    def exceeded(self) -> bool:
        """Whether more is stored than may be."""
        return self.used_nbytes > self.limit_nbytes


@dataclass(frozen=True, slots=True)
class Usage:
    """What all checkpoints of a store take.

    Attributes:
        runs: Name of a run to what it takes; runs without checkpoints included.
        checkpoints: How many there are.
        nbytes: Logical bytes: as if nothing were shared.
        stored_nbytes: Bytes of the distinct shards of all runs.
    """

    runs: Mapping[str, RunUsage]
    checkpoints: int
    nbytes: int
    stored_nbytes: int

    @property
    def saved_nbytes(self) -> int:
        """Bytes that sharing saves; the shards' own headers are not counted as a loss."""
        return max(0, self.nbytes - self.stored_nbytes)

    def of(self, run: str) -> RunUsage:
        """Returns what one run takes.

        Raises:
            NotFoundError: There is no such run.
        """
        if run not in self.runs:
            nearest = tuple(difflib.get_close_matches(run, list(self.runs), n=3))
            raise NotFoundError(
                f"there is no run {run!r}",
                hint=f"did you mean {nearest[0]!r}?" if nearest else "`holdfast runs` lists them",
                nearest=nearest,
            )
        return self.runs[run]

    def against(self, budget: int | str, *, run: str | None = None) -> Budget:
        """Returns stored bytes against a budget.

        Args:
            budget: Bytes that may be stored, or text such as ``"2GB"`` (GB is 10^9).
            run: Only the shards that this run holds, shared ones included; left out, all.

        Raises:
            ConfigError: The budget is no size, or not above 0.
            NotFoundError: There is no such run.
        """
        limit = Size.of(budget, asker="a budget")
        used = self.stored_nbytes if run is None else self.of(run).stored_nbytes
        return Budget(used, limit.nbytes)

    def as_dict(self) -> dict[str, Any]:
        """Returns it as plain JSON values."""
        return {
            "checkpoints": self.checkpoints,
            "nbytes": self.nbytes,
            "stored_nbytes": self.stored_nbytes,
            "saved_nbytes": self.saved_nbytes,
            "runs": {
                name: {
                    "checkpoints": run.checkpoints,
                    "nbytes": run.nbytes,
                    "stored_nbytes": run.stored_nbytes,
                    "unique_nbytes": run.unique_nbytes,
                }
                for name, run in self.runs.items()
            },
        }


def measure(place: Place) -> Usage:
    """Returns what takes space in a store, as its catalog knows it."""
    found = place.catalog.usage()
    return Usage(
        runs=dict(found.runs),
        checkpoints=sum(run.checkpoints for run in found.runs.values()),
        nbytes=sum(run.nbytes for run in found.runs.values()),
        stored_nbytes=found.stored_nbytes,
    )
