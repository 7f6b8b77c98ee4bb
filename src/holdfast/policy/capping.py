"""The cap on a run's bytes: who leaves, in which order, until the rest fits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from holdfast.model import CheckpointInfo, Mode
from holdfast.policy.metric import finite
from holdfast.policy.planning import Claim, Judgement, RunView, settle, shards_after
from holdfast.policy.ranking import best_of
from holdfast.policy.thresholds import Size
from holdfast.policy.wording import number, size


class _Held:
    """Distinct bytes of the shards that checkpoints need; a shard counts once."""

    def __init__(self) -> None:
        self.nbytes = 0
        self._users: Counter[str] = Counter()

    def add(self, shards: Iterable[str], info: CheckpointInfo) -> None:
        for shard in shards:
            if not self._users[shard]:
                self.nbytes += info.shards.get(shard, 0)
            self._users[shard] += 1

    def remove(self, shards: Iterable[str], info: CheckpointInfo) -> None:
        for shard in shards:
            self._users[shard] -= 1
            if not self._users[shard]:
                self.nbytes -= info.shards.get(shard, 0)


def cap(
    view: RunView, judgement: Judgement, *, limit: Size, rank: tuple[str, Mode] | None
) -> Judgement:
    """Returns a judgement without the claims that do not fit under a cap.

    Counted are the distinct bytes of shards of all that is kept in the run, the protected
    included; of what is thinned, the shards of the items that stay. The worst and oldest leave
    first, the best last; a protected checkpoint never leaves, nor one that cannot free a byte
    because protected ones need all its shards.

    Args:
        view: The run.
        judgement: What the policy under the cap claims.
        limit: The cap.
        rank: Metric and direction that tell the worst; None for the oldest.
    """
    held = _Held()
    needs: dict[str, tuple[str, ...]] = {}
    protected_shards: set[str] = set()
    for info in view.infos:
        claims = view.claims_on(info.id, judgement)
        if claims:
            needs[info.id] = tuple(shards_after(info, settle(info, claims).remaining))
            held.add(needs[info.id], info)
            if info.id in view.protected:
                protected_shards.update(needs[info.id])
    if held.nbytes <= limit.nbytes:
        return judgement
    movable = [
        info
        for info in view.infos
        if info.id in needs
        and info.id not in view.protected
        and not protected_shards.issuperset(needs[info.id])
    ]
    capped = Judgement(dict(judgement.claims), dict(judgement.passed))
    for info in _worst_first(movable, rank):
        if held.nbytes <= limit.nbytes:
            break
        before = held.nbytes
        held.remove(needs[info.id], info)
        del capped.claims[info.id]
        capped.pass_over(
            info, f"over the cap of {limit}: {size(before)} with it{_rank(info, rank)}"
        )
    if held.nbytes > limit.nbytes:
        note = Claim(
            f"the cap of {limit} is exceeded by what is protected alone: {size(held.nbytes)}"
        )
        for info in view.infos:
            if info.id in view.protected:
                capped.keep(info, note)
    return capped


def _worst_first(
    infos: Sequence[CheckpointInfo], rank: tuple[str, Mode] | None
) -> list[CheckpointInfo]:
    if rank is None:
        return list(infos)
    metric, mode = rank

    def badness(info: CheckpointInfo) -> tuple[bool, float]:
        value = finite(info.metrics, metric)
        if value is None:
            return (False, 0.0)
        return (True, value if mode == "max" else -value)

    # Stable: among equals the oldest leaves first. But of equal bests the incumbent is the best,
    # and the best leaves last.
    order = sorted(infos, key=badness)
    best = best_of(order, metric, mode=mode)
    if best is not None:
        order.remove(best)
        order.append(best)
    return order


def _rank(info: CheckpointInfo, rank: tuple[str, Mode] | None) -> str:
    if rank is None:
        return ", and it is the oldest of the rest"
    value = info.metrics.get(rank[0])
    if value is None:
        return f", and it has no {rank[0]}"
    return f", and its {rank[0]} of {number(value)} is the worst of the rest"
