"""`CheckpointStrategy`: how Ray Train of 2021 kept checkpoints, as a keep policy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from holdfast.errors import ConfigError
from holdfast.model import CheckpointInfo, Mode
from holdfast.policy import arguments
from holdfast.policy.followers import Follower, Ranked, Word
from holdfast.policy.ranking import (
    best_first,
    best_key,
    best_of,
    commit_order,
    newest_order,
    oldest_first,
)
from holdfast.policy.retention import Group, Window
from holdfast.policy.wording import number

__all__ = ["CheckpointStrategy"]


@dataclass(frozen=True, slots=True)
class CheckpointStrategy(Window):
    """Keeps so many checkpoints, by time or by a metric, and nothing besides.

    Unlike the policies of `holdfast.keep` it does not protect the newest: a newcomer that is not
    among the best is not kept. A tie keeps the earlier one; a missing value, a NaN or an infinity
    ranks last. Source of the rules: Ray Train 1.x, ``ray.train.CheckpointStrategy``.

    Attributes:
        num_to_keep: How many; None keeps all, 0 none.
        checkpoint_score_attribute: Name of the metric; None goes by the time of the commit.
        checkpoint_score_order: ``"max"`` (for the time: the newest) or ``"min"``.

    Raises:
        ConfigError: A value cannot be meant.
    """

    num_to_keep: int | None = None
    checkpoint_score_attribute: str | None = None
    checkpoint_score_order: Mode = "max"

    def __post_init__(self) -> None:
        asker = "CheckpointStrategy"
        if self.num_to_keep is not None:
            arguments.count(
                self.num_to_keep,
                "num_to_keep",
                asker=asker,
                least=0,
                hint="pass None to keep all, 0 to keep none, or how many to keep",
            )
        if self.checkpoint_score_attribute is not None:
            arguments.names((self.checkpoint_score_attribute,), "a metric's name", asker=asker)
        order: object = self.checkpoint_score_order
        if order not in {"max", "min"}:
            raise ConfigError(
                f"{asker}: checkpoint_score_order={order!r} is no order",
                hint='pass "max" or "min"',
            )

    @property
    def alone(self) -> bool:
        """True: it joins with no other policy."""
        return True

    def at_most(self) -> int | None:
        """Returns `num_to_keep`."""
        return self.num_to_keep

    def best(self, checkpoints: Iterable[CheckpointInfo]) -> CheckpointInfo | None:
        """Returns the best of the persisted checkpoints, or None where none can be best.

        Best can be what is restorable (full or weights, not damaged) and, when the strategy goes
        by a metric, has a finite value of it.
        """
        attribute, order = self.checkpoint_score_attribute, self.checkpoint_score_order
        if attribute is not None:
            return best_of(checkpoints, attribute, mode=order)
        able = [
            info
            for info in oldest_first(checkpoints)
            if info.kind in {"full", "weights"} and not info.damaged
        ]
        if not able:
            return None
        return able[-1] if order == "max" else able[0]

    def _words(self, group: Group) -> Iterator[Word]:
        attribute, order = self.checkpoint_score_attribute, self.checkpoint_score_order
        if attribute is not None:
            ranked = best_first(group.infos, attribute, mode=order)
        elif order == "max":
            ranked = list(reversed(group.infos))
        else:
            ranked = list(group.infos)
        for rank, info in enumerate(ranked, start=1):
            yield self._word(info, rank, len(ranked))

    def _word(self, info: CheckpointInfo, rank: int, of: int) -> Word:
        attribute, order = self.checkpoint_score_attribute, self.checkpoint_score_order
        limit = of if self.num_to_keep is None else self.num_to_keep
        title = "time" if attribute is None else attribute
        value = None if attribute is None else info.metrics.get(attribute)
        shown = "" if value is None else f" with {number(value)}"
        stays = rank <= limit
        place = f"{'among' if stays else 'not among'} the {limit} kept by {title}"
        return Word(info, stays, f"{place} ({order}): rank {rank}{shown}")

    def follower(self) -> Follower:
        """Returns what holds them in order."""
        attribute, order = self.checkpoint_score_attribute, self.checkpoint_score_order
        if attribute is not None:
            key = best_key(attribute, mode=order, ties="incumbent")
            return Ranked(key, self.num_to_keep, self._word)
        by_time = newest_order if order == "max" else commit_order
        return Ranked(by_time, self.num_to_keep, self._word)

    def _metrics(self) -> frozenset[str]:
        attribute = self.checkpoint_score_attribute
        return frozenset() if attribute is None else frozenset({attribute})

    def __repr__(self) -> str:
        parts = (
            repr(self.num_to_keep),
            repr(self.checkpoint_score_attribute),
            repr(self.checkpoint_score_order),
        )
        return f"CheckpointStrategy({', '.join(parts)})"
