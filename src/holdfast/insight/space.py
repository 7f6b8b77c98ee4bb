"""What takes space in a store, by run and by item, and what a stricter policy would free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from holdfast.catalog import RunUsage
from holdfast.errors import ConfigError
from holdfast.insight.overview import Overview
from holdfast.lifecycle.health import MirrorState, Verified
from holdfast.lifecycle.usage import Budget
from holdfast.model import Plan
from holdfast.store import Store


@dataclass(frozen=True, slots=True)
class Space:
    """What takes space.

    Attributes:
        runs: Name of a run to what it takes, the largest first.
        items: Name of an item to the bytes of the distinct shards that hold it, the largest
            first; a shard of two items counts for both.
        nbytes: Logical bytes of all, as if nothing were shared.
        stored_nbytes: Bytes of the distinct shards.
        budget: Stored bytes against what they may be, where a budget was given.
    """

    runs: Mapping[str, RunUsage]
    items: Mapping[str, int]
    nbytes: int
    stored_nbytes: int
    budget: Budget | None


@dataclass(frozen=True, slots=True)
class Soundness:
    """How sound the store's copies are known to be.

    Attributes:
        runs: Name of a run to what verifications found.
        mirrors: How far each mirror is.
    """

    runs: Mapping[str, Verified]
    mirrors: tuple[MirrorState, ...]

    @property
    def newest_at(self) -> float | None:
        """When something was verified last; None where nothing was."""
        return max((run.newest_at for run in self.runs.values() if run.newest_at), default=None)


@dataclass(frozen=True, slots=True)
class Freed:
    """What a policy would do; nothing was deleted.

    Attributes:
        policy: The policy.
        kept: How many checkpoints it would keep, thinned ones among them.
        thinned: How many it would thin.
        deleted: How many it would delete.
        nbytes: Bytes that it would free, at least.
        left_out: Names of runs for which it means nothing: it needs a metric, and they have none.
    """

    policy: str
    kept: int
    thinned: int
    deleted: int
    nbytes: int
    left_out: tuple[str, ...] = ()


def space_of(store: Store, overview: Overview) -> Space:
    """Returns what takes space in a store as it is now."""
    usage, budget = overview.usage()
    by_item: dict[str, dict[str, int]] = {}
    for checkpoint in store.checkpoints():
        info = checkpoint.info
        for item, shards in info.item_shards.items():
            sizes = by_item.setdefault(item, {})
            sizes.update((shard, info.shards[shard]) for shard in shards if shard in info.shards)
    items = {item: sum(sizes.values()) for item, sizes in by_item.items()}
    return Space(
        runs=dict(sorted(usage.runs.items(), key=lambda run: (-run[1].stored_nbytes, run[0]))),
        items=dict(sorted(items.items(), key=lambda item: (-item[1], item[0]))),
        nbytes=usage.nbytes,
        stored_nbytes=usage.stored_nbytes,
        budget=budget,
    )


def soundness_of(store: Store) -> Soundness:
    """Returns how sound a store's copies are known to be; every journal is read for it."""
    return Soundness(store.verified(), store.mirror_states())


def freed_by(store: Store, policy: str, *, run: str | None = None) -> Freed:
    """Returns what a stricter policy would free; nothing is deleted.

    Args:
        store: The store.
        policy: The policy, as text: ``"best(5) | latest(2)"``.
        run: Only this run; left out, all.

    Raises:
        NotFoundError: There is no such run.
        ConfigError: The text is no policy, or needs a metric that the run has not.
    """
    if run is not None:
        return _freed(policy, [store.prune(run, policy=policy)])
    try:
        return _freed(policy, [store.prune(policy=policy)])
    except ConfigError:
        plans, left_out, error = _one_by_one(store, policy)
        if not plans and error is not None:
            raise error from None
        return _freed(policy, plans, left_out)


def _one_by_one(
    store: Store, policy: str
) -> tuple[list[Plan], tuple[str, ...], ConfigError | None]:
    """Returns the plans of the runs for which a policy means something, and the others' names."""
    plans: list[Plan] = []
    left_out: list[str] = []
    last: ConfigError | None = None
    for run in store.runs():
        try:
            plans.append(store.prune(run.name, policy=policy))
        except ConfigError as error:
            left_out.append(run.name)
            last = error
    return plans, tuple(left_out), last


def _freed(policy: str, plans: list[Plan], left_out: tuple[str, ...] = ()) -> Freed:
    return Freed(
        policy,
        kept=sum(len(plan.kept) for plan in plans),
        thinned=sum(len(plan.thinned) for plan in plans),
        deleted=sum(len(plan.deleted) for plan in plans),
        nbytes=sum(plan.freed_nbytes for plan in plans),
        left_out=left_out,
    )
