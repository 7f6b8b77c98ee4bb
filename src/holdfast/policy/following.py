"""Plans after each save that look at what changed, and at whom that concerns."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from holdfast.model import CheckpointInfo, Plan
from holdfast.policy.followers import Follower
from holdfast.policy.planning import (
    NEWEST,
    can_be_newest,
    farewell,
    protections,
    sentences_of,
    settle,
)
from holdfast.policy.ranking import commit_order, oldest_first
from holdfast.policy.retention import KeepPolicy


class FollowedRun:
    """A run's checkpoints as a keep policy follows them.

    What it deletes and thins is what `KeepPolicy.plan` would, with the same reasons.

    Args:
        policy: The policy, bound to the run's metric.
        told: Id of a checkpoint to why it stays, as that was told before.
    """

    def __init__(
        self, policy: KeepPolicy, *, told: Mapping[str, Iterable[str]] = MappingProxyType({})
    ) -> None:
        self._policy = policy
        self._follows = policy.follower() is not None
        self._infos: dict[str, CheckpointInfo] = {}
        self._kinds: dict[str, Follower] = {}
        # Those that may be protected as the newest, oldest first.
        self._full: list[tuple[float, int, str]] = []
        self._newest: str | None = None
        self._finished = False
        self._open: set[str] = set()
        self._titles = {checkpoint_id: _titles(why) for checkpoint_id, why in told.items()}

    def learn(self, info: CheckpointInfo) -> None:
        """Takes note of a checkpoint that is new, or of which something is new."""
        self._leave(info.id)
        self._infos[info.id] = info
        self._open.add(info.id)
        if not self._follows or info.damaged:
            return
        self._follower(info).add(info)
        if can_be_newest(info):
            insort(self._full, commit_order(info))

    def forget(self, checkpoint_id: str) -> None:
        """Takes note that a checkpoint is there no longer."""
        self._leave(checkpoint_id)
        self._open.discard(checkpoint_id)
        self._titles.pop(checkpoint_id, None)

    def plan(self, *, now: float, finished: bool) -> Plan:
        """Returns what to thin and delete, and what stays for another reason than before.

        Of the others that stay nothing is said: `Plan.kept` leaves them out, and so does
        `Plan.reasons`. A rank or an age that changed is no other reason. What freeing comes to is
        not counted.

        Args:
            now: Seconds since the epoch, UTC.
            finished: Whether the run is over: then the policy rules alone.

        Raises:
            ConfigError: The policy lacks a metric or a direction.
        """
        if self._follows:
            plan = self._followed(now, finished)
        else:
            plan = self._policy.plan(self._infos.values(), now=now, finished=finished)
        gone = {info.id for info in plan.deleted}
        self._open = gone | plan.remaining.keys()
        titles = {i: _titles(why) for i, why in plan.reasons.items()}
        kept = tuple(
            info
            for info in plan.kept
            if info.id in plan.remaining or titles[info.id] != self._titles.get(info.id)
        )
        self._titles.update(titles)
        told = (*kept, *plan.deleted)
        return Plan(
            kept=kept,
            deleted=plan.deleted,
            thinned=plan.thinned,
            reasons={info.id: plan.reasons[info.id] for info in told},
            remaining=plan.remaining,
        )

    def _followed(self, now: float, finished: bool) -> Plan:
        newest = self._protected_newest(finished)
        concerned = self._open.union(*(kind.moved(now) for kind in self._kinds.values()))
        if finished != self._finished:
            self._finished = finished
            concerned = set(self._infos)
        if newest != self._newest:
            concerned |= {one for one in (self._newest, newest) if one is not None}
            self._newest = newest
        shield = None if newest is None else self._infos[newest]
        kept: list[CheckpointInfo] = []
        deleted: list[CheckpointInfo] = []
        reasons: dict[str, tuple[str, ...]] = {}
        remaining: dict[str, tuple[str, ...]] = {}
        known = [self._infos[i] for i in concerned if i in self._infos]
        for info in oldest_first(known):
            claims, passed = ((), ()) if info.damaged else self._follower(info).says(info, now)
            claims = (*claims, *protections(info, finished=finished))
            if info.id == newest:
                claims = (*claims, NEWEST)
            if not claims:
                deleted.append(info)
                reasons[info.id] = farewell(info, shield, passed)
                continue
            settled = settle(info, claims)
            kept.append(info)
            reasons[info.id] = sentences_of(claims, settled)
            if settled.remaining is not None:
                remaining[info.id] = settled.remaining
        thinned = tuple(info for info in kept if info.id in remaining)
        return Plan(tuple(kept), tuple(deleted), thinned, reasons, remaining=remaining)

    def _protected_newest(self, finished: bool) -> str | None:
        if finished or self._policy.explicit or not self._full:
            return None
        return self._full[-1][-1]

    def _leave(self, checkpoint_id: str) -> None:
        info = self._infos.pop(checkpoint_id, None)
        if info is None or not self._follows or info.damaged:
            return
        self._follower(info).remove(info)
        if can_be_newest(info):
            del self._full[bisect_left(self._full, commit_order(info))]

    def _follower(self, info: CheckpointInfo) -> Follower:
        known = self._kinds.get(info.kind)
        if known is None:
            known = self._policy.follower()
            assert known is not None  # noqa: S101 - asked at the beginning
            self._kinds[info.kind] = known
        return known


def _titles(sentences: Iterable[str]) -> tuple[str, ...]:
    """Returns reasons without their numbers."""
    return tuple(sentence.partition(":")[0] for sentence in sentences)
