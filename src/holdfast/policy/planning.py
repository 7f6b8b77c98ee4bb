"""Plans: from what policies claim to what is kept, thinned and deleted, with every reason.

A keep policy sees one run at a time (`RunView`) and answers with claims on checkpoints
(`Judgement`). What it does not claim is deleted, unless the run's view protects it: the newest,
the pinned, those that await a score, and the damaged ones, which are set aside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from holdfast.errors import ConfigError
from holdfast.model import CheckpointInfo, Plan
from holdfast.policy.ranking import oldest_first


@dataclass(frozen=True, slots=True)
class Claim:
    """A reason to keep a checkpoint.

    Attributes:
        why: A sentence.
        items: The items that it asks for; None for all.
    """

    why: str
    items: frozenset[str] | None = None


NEWEST: Final = Claim("newest of its run: nothing newer is durable yet")


@dataclass(frozen=True, slots=True)
class RunView:
    """What a policy sees of a run.

    Attributes:
        infos: All checkpoints of the run, oldest first.
        groups: The intact ones by kind, oldest first: kinds are planned among themselves.
        protected: Checkpoint id to the claims that no policy can refuse.
        newest: The newest intact full checkpoint that is not thinned, while it is protected.
        now: Seconds since the epoch, UTC; None where the caller did not say.
    """

    infos: tuple[CheckpointInfo, ...]
    groups: tuple[tuple[CheckpointInfo, ...], ...]
    protected: Mapping[str, tuple[Claim, ...]]
    newest: CheckpointInfo | None
    now: float | None

    def claims_on(self, checkpoint_id: str, judgement: Judgement) -> tuple[Claim, ...]:
        """Returns the policy's claims on a checkpoint and those that protect it."""
        asked = judgement.claims.get(checkpoint_id, ())
        return (*asked, *self.protected.get(checkpoint_id, ()))


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a policy says about the checkpoints of a run.

    Attributes:
        claims: Checkpoint id to the reasons to keep it.
        passed: Checkpoint id to sentences that say why a rule does not keep it.
    """

    claims: dict[str, tuple[Claim, ...]] = field(default_factory=dict)
    passed: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def keep(self, info: CheckpointInfo, *claims: Claim) -> None:
        """Adds claims on a checkpoint."""
        self.claims[info.id] = (*self.claims.get(info.id, ()), *claims)

    def pass_over(self, info: CheckpointInfo, *sentences: str) -> None:
        """Adds sentences that say why a checkpoint is not kept."""
        self.passed[info.id] = (*self.passed.get(info.id, ()), *sentences)


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a checkpoint's claims come to.

    Attributes:
        remaining: The items that it keeps; None when it loses none.
        note: A sentence where the claims could not be followed to the letter.
    """

    remaining: tuple[str, ...] | None
    note: str = ""


def settle(info: CheckpointInfo, claims: Iterable[Claim]) -> Settlement:
    """Returns which items remain of a checkpoint: what any of its claims asks for.

    A claim none of whose items is there keeps the checkpoint whole: a misspelt item must not
    empty it. Where its items are not known, every item asked for is taken to be there.
    """
    if info.kind == "metrics":
        return Settlement(None)
    asked: set[str] = set()
    for claim in claims:
        if claim.items is None:
            return Settlement(None)
        found = claim.items.intersection(info.items) if info.items else claim.items
        if not found:
            return Settlement(
                None,
                f"kept whole: it holds none of the items asked for "
                f"({', '.join(sorted(claim.items)) or 'none at all'}); "
                f"its items are {', '.join(info.items) or 'not known'}",
            )
        asked |= found
    if not info.items:
        return Settlement(tuple(sorted(asked)))
    remaining = tuple(item for item in info.items if item in asked)
    return Settlement(None if len(remaining) == len(info.items) else remaining)


def shards_after(info: CheckpointInfo, remaining: tuple[str, ...] | None) -> Iterable[str]:
    """Returns the shards that a checkpoint needs with these items; all where that is not known."""
    if remaining is None or any(item not in info.item_shards for item in remaining):
        return info.shards
    return {shard for item in remaining for shard in info.item_shards[item]}


def make_plan(
    checkpoints: Iterable[CheckpointInfo],
    judge: Callable[[RunView], Judgement],
    *,
    now: float | None,
    protect_newest: bool,
    finished: bool,
) -> Plan:
    """Returns the plan that a policy's judgements come to, run by run.

    Args:
        checkpoints: In any order, of any number of runs.
        judge: The policy's answer to one run.
        now: Seconds since the epoch, UTC.
        protect_newest: Whether the newest intact full checkpoint of each run stays whole.
        finished: Whether the runs are over, so that nothing is awaited any more and the policy
            rules alone.

    Raises:
        ConfigError: Two checkpoints have one id.
    """
    ordered = oldest_first(checkpoints)
    runs: dict[str, list[CheckpointInfo]] = {}
    seen: set[str] = set()
    for info in ordered:
        if info.id in seen:
            raise ConfigError(
                f"the checkpoint {info.id!r} was passed twice", hint="pass each checkpoint once"
            )
        seen.add(info.id)
        runs.setdefault(info.run, []).append(info)
    reasons: dict[str, tuple[str, ...]] = {}
    remaining: dict[str, tuple[str, ...]] = {}
    gone: set[str] = set()
    for infos in runs.values():
        view = _view(infos, now=now, protect_newest=protect_newest, finished=finished)
        judgement = judge(view)
        for info in infos:
            claims = view.claims_on(info.id, judgement)
            if not claims:
                gone.add(info.id)
                reasons[info.id] = farewell(info, view.newest, judgement.passed.get(info.id, ()))
                continue
            settled = settle(info, claims)
            if settled.remaining is not None:
                remaining[info.id] = settled.remaining
            reasons[info.id] = sentences_of(claims, settled)
    return Plan(
        kept=tuple(info for info in ordered if info.id not in gone),
        deleted=tuple(info for info in ordered if info.id in gone),
        thinned=tuple(info for info in ordered if info.id in remaining),
        reasons=reasons,
        freed_nbytes=_freed(ordered, gone, remaining),
        remaining=remaining,
    )


def _view(
    infos: list[CheckpointInfo], *, now: float | None, protect_newest: bool, finished: bool
) -> RunView:
    groups: dict[str, list[CheckpointInfo]] = {}
    protected: dict[str, tuple[Claim, ...]] = {}
    newest: CheckpointInfo | None = None
    for info in infos:
        claims = protections(info, finished=finished)
        if claims:
            protected[info.id] = claims
        if info.damaged:
            continue
        groups.setdefault(info.kind, []).append(info)
        if can_be_newest(info) and protect_newest and not finished:
            newest = info
    if newest is not None:
        protected[newest.id] = (*protected.get(newest.id, ()), NEWEST)
    return RunView(
        infos=tuple(infos),
        groups=tuple(tuple(group) for group in groups.values()),
        protected=protected,
        newest=newest,
        now=now,
    )


def can_be_newest(info: CheckpointInfo) -> bool:
    """Returns whether a checkpoint can be the one that is protected as the newest."""
    return info.kind == "full" and not info.thinned and not info.damaged


def protections(info: CheckpointInfo, *, finished: bool) -> tuple[Claim, ...]:
    """Returns the claims on a checkpoint that no policy can refuse, but for that of the newest."""
    claims = []
    if info.damaged:
        claims.append(Claim("damaged: set aside, takes no place"))
    if info.pinned:
        claims.append(Claim("pinned: no policy deletes it"))
    missing = [name for name in info.awaiting if name not in info.metrics]
    if missing and not finished:
        claims.append(Claim(f"awaiting {', '.join(missing)}: not deleted before it is reported"))
    return tuple(claims)


def farewell(
    info: CheckpointInfo, newest: CheckpointInfo | None, passed: tuple[str, ...]
) -> tuple[str, ...]:
    """Returns why a checkpoint goes.

    Args:
        info: The checkpoint.
        newest: The one that is protected as the newest of its run.
        passed: Why no rule keeps it.
    """
    sentences = passed or ("no rule keeps it",)
    if info.kind == "full" and newest is not None and newest.created_at > info.created_at:
        sentences = (*sentences, f"a newer one is durable: {newest.id}")
    return tuple(dict.fromkeys(sentences))


def sentences_of(claims: Iterable[Claim], settled: Settlement) -> tuple[str, ...]:
    """Returns why a checkpoint stays."""
    sentences = dict.fromkeys(claim.why for claim in claims)
    if settled.note:
        sentences[settled.note] = None
    return tuple(sentences)


def _freed(
    infos: Iterable[CheckpointInfo],
    gone: set[str],
    remaining: Mapping[str, tuple[str, ...]],
) -> int:
    before: dict[str, int] = {}
    needed: set[str] = set()
    for info in infos:
        before.update(info.shards)
        if info.id not in gone:
            needed.update(shards_after(info, remaining.get(info.id)))
    return sum(nbytes for shard, nbytes in before.items() if shard not in needed)
