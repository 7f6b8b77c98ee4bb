"""Keep policies: what all of them can do, and how they join, thin and cap."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, Self

from holdfast.errors import ConfigError
from holdfast.model import CheckpointInfo, Mode, Plan
from holdfast.policy import arguments
from holdfast.policy.capping import cap
from holdfast.policy.followers import Follower, Joined, Word
from holdfast.policy.metric import MetricRef
from holdfast.policy.planning import Claim, Judgement, RunView, make_plan
from holdfast.policy.policy import Policy, same_kind
from holdfast.policy.thresholds import Size
from holdfast.policy.wording import expression


class KeepPolicy(Policy):
    """Says which checkpoints of a run stay. Made by the functions of `holdfast.keep`.

    Policies are values: equal when they say the same, and their `repr` is the expression that
    makes them. ``a | b`` keeps what either keeps.
    """

    __slots__ = ()

    #: Whether it needs to know what time it is.
    aged: ClassVar[bool] = False

    def plan(
        self,
        checkpoints: Iterable[CheckpointInfo],
        *,
        now: float | None = None,
        finished: bool = False,
    ) -> Plan:
        """Returns what to keep, thin and delete, with at least one reason for each checkpoint.

        Runs are planned one by one, and within a run the kinds among themselves. Whatever the
        policy says: a pinned checkpoint stays whole; one that is promised a score stays until the
        score is there; a damaged one is set aside and takes no place. The newest intact full
        checkpoint of a run stays whole until a newer one is durable, except under `keep.none()`
        and `CheckpointStrategy`.

        Args:
            checkpoints: In any order.
            now: Seconds since the epoch, UTC; for the rules that look at ages.
            finished: Whether the runs are over: then the policy rules alone.

        Raises:
            ConfigError: Two checkpoints have one id; a metric, a direction or `now` is missing.
        """
        self._check(now)
        return make_plan(
            checkpoints,
            self._judge,
            now=now,
            protect_newest=not self.explicit,
            finished=finished,
        )

    def items(self, *names: str) -> KeepPolicy:
        """Returns this policy, keeping these items of a checkpoint only: the rest is thinned away.

        Raises:
            ConfigError: No item is named, or a name is empty.
        """
        asker = f"{self!r}.items"
        checked = arguments.names(names, "an item's name", asker=asker)
        if not checked:
            raise ConfigError(
                f"{asker}() names no item", hint='name the items to keep: .items("model")'
            )
        return Items(self, checked)

    def capped(
        self, size: int | str, *, metric: str | None = None, mode: str | None = None
    ) -> KeepPolicy:
        """Returns this policy under a cap on the distinct bytes that a run's checkpoints hold.

        The worst and oldest leave first, the best last; what is protected counts and stays.

        Args:
            size: Bytes, or text such as ``"2GB"`` (GB is 10^9, GiB is 2^30).
            metric: What tells the worst; by default the first metric that this policy ranks by,
                then the run's, then age alone.
            mode: Direction of `metric`.

        Raises:
            ConfigError: An argument cannot be meant.
        """
        asker = f"{self!r}.capped"
        checked = Size.of(size, asker=asker)
        return Capped(self, checked, MetricRef.of(metric, mode, asker=asker))

    @property
    def empty(self) -> bool:
        """Whether it keeps nothing on purpose, as `keep.none()` does."""
        return False

    @property
    def alone(self) -> bool:
        """Whether it is a whole rule book that joins with no other, as `CheckpointStrategy` is."""
        return False

    @property
    def explicit(self) -> bool:
        """Whether it may delete the newest checkpoint before a newer one is durable."""
        return self.empty or self.alone

    def at_most(self) -> int | None:
        """Returns how many checkpoints of a run it keeps at most; None where nothing bounds it."""
        counts = [part.at_most() for part in self._parts()]
        if not counts or None in counts:
            return None
        return sum(count for count in counts if count is not None)

    def ranking(self) -> MetricRef | None:
        """Returns the first metric that it ranks by, if it ranks by any."""
        return next((ref for part in self._parts() if (ref := part.ranking()) is not None), None)

    @abstractmethod
    def _judge(self, view: RunView) -> Judgement: ...

    def follower(self) -> Follower | None:
        """Returns what says the same one checkpoint at a time, for one kind of one run.

        None for a policy whose word on one rests on all others: it is planned anew each time.
        """
        return None

    def _parts(self) -> Sequence[KeepPolicy]:
        return ()

    def _ready(self) -> None:
        """Raises `ConfigError` where the policy does not know a metric or its direction."""

    def _check(self, now: float | None) -> None:
        if self.aged and now is None:
            raise ConfigError(
                f"{self!r} looks at ages and was not told the time",
                hint="pass now=, in seconds since the epoch, to plan()",
            )
        self._ready()
        for part in self._parts():
            part._check(now)

    def __or__(self, other: KeepPolicy) -> KeepPolicy:
        same_kind(self, other, KeepPolicy, sign="|")
        for operand in (self, other):
            if operand.alone:
                raise ConfigError(
                    f"{operand!r} stands alone and cannot be joined with another policy",
                    hint="use keep.best(n) | keep.latest(n) instead",
                )
        parts = [part for part in (*_flat(self), *_flat(other)) if not part.empty]
        return AnyOf(tuple(parts)) if len(parts) > 1 else parts[0] if parts else self

    # Reached only when the left operand is no keep policy: the error is the answer.
    def __ror__(self, other: object) -> KeepPolicy:
        same_kind(other, self, KeepPolicy, sign="|")
        return self


class Group(NamedTuple):
    """What a window looks at: intact checkpoints of one run and one kind, oldest first."""

    infos: Sequence[CheckpointInfo]
    now: float | None


class Window(KeepPolicy):
    """A keep policy that is not made of others: it looks at one kind of checkpoint at a time."""

    __slots__ = ()

    @abstractmethod
    def _words(self, group: Group) -> Iterator[Word]:
        """Yields one word about each checkpoint of a group."""

    def _judge(self, view: RunView) -> Judgement:
        judgement = Judgement()
        for infos in view.groups:
            for info, stays, why in self._words(Group(infos, view.now)):
                if stays:
                    judgement.claims[info.id] = (Claim(why),)
                else:
                    judgement.passed[info.id] = (why,)
        return judgement


@dataclass(frozen=True, slots=True)
class AnyOf(KeepPolicy):
    """Keeps what one of its parts keeps."""

    parts: tuple[KeepPolicy, ...]

    def _judge(self, view: RunView) -> Judgement:
        joined = Judgement()
        answers = [part._judge(view) for part in self.parts]
        for info in view.infos:
            for answer in answers:
                if info.id in answer.claims:
                    joined.keep(info, *answer.claims[info.id])
                if info.id in answer.passed:
                    joined.pass_over(info, *answer.passed[info.id])
        return joined

    def follower(self) -> Follower | None:
        """Returns what follows all of its parts, if all of them can be followed."""
        followers = [part.follower() for part in self.parts]
        known = [follower for follower in followers if follower is not None]
        return Joined(known) if len(known) == len(followers) else None

    def _parts(self) -> Sequence[KeepPolicy]:
        return self.parts

    def _bound(self, run: MetricRef) -> Self:
        return replace(self, parts=tuple(part.bind(run.name, run.mode) for part in self.parts))

    def __repr__(self) -> str:
        return " | ".join(repr(part) for part in self.parts)


class _Wrapper(KeepPolicy):
    __slots__ = ()

    inner: KeepPolicy

    @property
    def empty(self) -> bool:
        """Whether the inner policy keeps nothing on purpose."""
        return self.inner.empty

    @property
    def alone(self) -> bool:
        """Whether the inner policy joins with no other."""
        return self.inner.alone

    def _parts(self) -> Sequence[KeepPolicy]:
        return (self.inner,)

    def _prefix(self) -> str:
        return f"({self.inner!r})" if isinstance(self.inner, AnyOf) else repr(self.inner)


@dataclass(frozen=True, slots=True)
class Items(_Wrapper):
    """Keeps some items only of what the inner policy keeps."""

    inner: KeepPolicy
    names: tuple[str, ...]

    def _judge(self, view: RunView) -> Judgement:
        answer = self.inner._judge(view)
        claims = {
            checkpoint_id: tuple(map(self._asking, claims))
            for checkpoint_id, claims in answer.claims.items()
        }
        return Judgement(claims, answer.passed)

    def follower(self) -> Follower | None:
        """Returns what follows the inner policy, asking for these items only."""
        inner = self.inner.follower()
        return None if inner is None else Joined([inner], asking=self._asking)

    def _asking(self, claim: Claim) -> Claim:
        mine = frozenset(self.names)
        why = f"{claim.why} (items {', '.join(self.names)})"
        return Claim(why, mine if claim.items is None else claim.items & mine)

    def _bound(self, run: MetricRef) -> Self:
        return replace(self, inner=self.inner.bind(run.name, run.mode))

    def __repr__(self) -> str:
        return expression(f"{self._prefix()}.items", *self.names)


@dataclass(frozen=True, slots=True)
class Capped(_Wrapper):
    """Keeps what the inner policy keeps, as far as it fits."""

    inner: KeepPolicy
    size: Size
    metric: MetricRef

    def _judge(self, view: RunView) -> Judgement:
        answer = self.inner._judge(view)
        return cap(view, answer, limit=self.size, rank=self._rank())

    def _rank(self) -> tuple[str, Mode] | None:
        ref = self.ranking()
        return None if ref is None or ref.name is None else ref.resolved(self)

    def ranking(self) -> MetricRef | None:
        """Returns the metric that tells the worst, if one does."""
        return self.metric if self.metric.name is not None else self.inner.ranking()

    def _ready(self) -> None:
        self._rank()

    def _metrics(self) -> frozenset[str]:
        return self.metric.names()

    def _bound(self, run: MetricRef) -> Self:
        inner = self.inner.bind(run.name, run.mode)
        metric = self.metric
        if metric.name is not None or (run.name is not None and inner.ranking() is None):
            metric = metric.bind(run, asker=self)
        return replace(self, inner=inner, metric=metric)

    def __repr__(self) -> str:
        return expression(
            f"{self._prefix()}.capped",
            self.size.given,
            metric=self.metric.name,
            mode=self.metric.mode,
        )


def _flat(policy: KeepPolicy) -> tuple[KeepPolicy, ...]:
    return policy.parts if isinstance(policy, AnyOf) else (policy,)
