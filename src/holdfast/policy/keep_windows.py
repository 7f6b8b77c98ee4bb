"""Keep rules: each looks at the checkpoints of one kind in one run and says which it keeps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from holdfast.model import CheckpointInfo
from holdfast.policy.followers import Aging, FirstOfWindows, Follower, Ranked, Single, Word
from holdfast.policy.metric import MetricRef, finite
from holdfast.policy.pareto import front
from holdfast.policy.policy import OfMetric
from holdfast.policy.ranking import Ties, best_first, best_key, newest_order
from holdfast.policy.retention import Group, Window
from holdfast.policy.wording import duration, expression, number


@dataclass(frozen=True, slots=True)
class Best(OfMetric, Window):
    """The n best by a metric; see `holdfast.keep.best`."""

    n: int
    metric: MetricRef
    ties: Ties = "incumbent"

    def at_most(self) -> int | None:
        """Returns how many it keeps."""
        return self.n

    def _words(self, group: Group) -> Iterator[Word]:
        name, mode = self.metric.resolved(self)
        ranked = best_first(group.infos, name, mode=mode, ties=self.ties)
        return (self._word(info, rank) for rank, info in enumerate(ranked, start=1))

    def _word(self, info: CheckpointInfo, rank: int, _all: int = 0) -> Word:
        name = self.metric.required(self)
        title = f"best {self.n} by {name}"
        value = info.metrics.get(name)
        shown = "without a value" if value is None else f"with {number(value)}"
        if rank <= self.n:
            return Word(info, True, f"{title}: rank {rank} {shown}")
        return Word(info, False, f"not among the {title}: rank {rank} {shown}")

    def follower(self) -> Follower:
        """Returns what holds them in order."""
        name, mode = self.metric.resolved(self)
        return Ranked(best_key(name, mode=mode, ties=self.ties), self.n, self._word)

    def _ready(self) -> None:
        self.metric.resolved(self)

    def ranking(self) -> MetricRef | None:
        """Returns its metric."""
        return self.metric

    def __repr__(self) -> str:
        return expression(
            "keep.best",
            self.n,
            self.metric.name,
            mode=self.metric.mode,
            ties=None if self.ties == "incumbent" else self.ties,
        )


@dataclass(frozen=True, slots=True)
class Latest(Window):
    """The n committed last; see `holdfast.keep.latest`."""

    n: int

    def at_most(self) -> int | None:
        """Returns how many it keeps."""
        return self.n

    def _words(self, group: Group) -> Iterator[Word]:
        newest_first = enumerate(reversed(group.infos), start=1)
        return (self._word(info, place) for place, info in newest_first)

    def _word(self, info: CheckpointInfo, place: int, _all: int = 0) -> Word:
        if place <= self.n:
            return Word(info, True, f"latest {self.n}: number {place}")
        return Word(info, False, f"not among the latest {self.n}: number {place}")

    def follower(self) -> Follower:
        """Returns what holds them in order."""
        return Ranked(newest_order, self.n, self._word)

    def __repr__(self) -> str:
        return expression("keep.latest", self.n)


@dataclass(frozen=True, slots=True)
class FirstOfEvery(Window):
    """The first of each window of steps or of time; see `holdfast.keep.every`."""

    steps: int | None
    seconds: float | None

    def _words(self, group: Group) -> Iterator[Word]:
        first: dict[tuple[str, int], str] = {}
        for info in group.infos:
            holders = [first.setdefault(window, info.id) for window in self._within(info)]
            yield self._word(info, holders)

    def _word(self, info: CheckpointInfo, holders: Sequence[str]) -> Word:
        opened, taken = [], []
        for (_, title), holder in zip(self._windows(info), holders, strict=True):
            if holder == info.id:
                opened.append(f"first of {title}")
            else:
                taken.append(f"not the first of {title}: {holder} is")
        return Word(info, bool(opened), "; ".join(opened or taken))

    def follower(self) -> Follower:
        """Returns what holds each window in order."""
        return FirstOfWindows(self._within, self._word)

    def _within(self, info: CheckpointInfo) -> list[tuple[str, int]]:
        return [window for window, _ in self._windows(info)]

    def _windows(self, info: CheckpointInfo) -> Iterator[tuple[tuple[str, int], str]]:
        if self.steps is not None:
            index = info.step // self.steps
            title = f"steps {index * self.steps} to {(index + 1) * self.steps - 1}"
            yield ("steps", index), title
        if self.seconds is not None:
            index = math.floor(info.created_at / self.seconds)
            yield ("seconds", index), f"window {index} of {duration(self.seconds)} each"

    def __repr__(self) -> str:
        return expression("keep.every", steps=self.steps, seconds=self.seconds)


@dataclass(frozen=True, slots=True)
class NewerThan(Window):
    """Those below an age; see `holdfast.keep.newer_than`."""

    aged: ClassVar[bool] = True
    days: float
    hours: float

    def _words(self, group: Group) -> Iterator[Word]:
        return (self._word(info, group.now or 0.0) for info in group.infos)

    def _word(self, info: CheckpointInfo, now: float) -> Word:
        span, age = self._span, now - info.created_at
        if age < span:
            return Word(info, True, f"newer than {duration(span)}: {duration(age)} old")
        return Word(info, False, f"not newer than {duration(span)}: {duration(age)} old")

    @property
    def _span(self) -> float:
        return 86400 * self.days + 3600 * self.hours

    def follower(self) -> Follower:
        """Returns what holds them by age."""
        return Aging(self._span, self._word)

    def __repr__(self) -> str:
        return expression("keep.newer_than", days=self.days or None, hours=self.hours or None)


@dataclass(frozen=True, slots=True)
class Tagged(Window):
    """Those that carry a tag; see `holdfast.keep.tagged`."""

    tags: tuple[str, ...]

    def _words(self, group: Group) -> Iterator[Word]:
        return map(self._word, group.infos)

    def _word(self, info: CheckpointInfo) -> Word:
        found = [tag for tag in info.tags if not self.tags or tag in self.tags]
        if found:
            return Word(info, True, f"tagged {', '.join(found)}")
        return Word(info, False, f"not tagged {' or '.join(self.tags) or 'at all'}")

    def follower(self) -> Follower:
        """Returns what looks at each by itself."""
        return Single(self._word)

    def __repr__(self) -> str:
        return expression("keep.tagged", *self.tags)


@dataclass(frozen=True, slots=True)
class Unscored(OfMetric, Window):
    """Young ones whose score is still to come; see `holdfast.keep.unscored`."""

    aged: ClassVar[bool] = True
    directed: ClassVar[bool] = False
    metric: MetricRef
    hours: float

    def _words(self, group: Group) -> Iterator[Word]:
        return (self._word(info, group.now or 0.0) for info in group.infos)

    def _word(self, info: CheckpointInfo, now: float) -> Word:
        name = self.metric.required(self)
        span, age = 3600 * self.hours, now - info.created_at
        if name in info.metrics:
            return Word(info, False, f"{name} is there: nothing to wait for")
        if age < span:
            return Word(info, True, f"{name} may still come: {duration(age)} old")
        return Word(info, False, f"{name} did not come in {duration(span)}")

    def follower(self) -> Follower:
        """Returns what holds them by age."""
        return Aging(3600 * self.hours, self._word)

    def _ready(self) -> None:
        self.metric.required(self)

    def __repr__(self) -> str:
        return expression("keep.unscored", self.metric.name, hours=self.hours)


@dataclass(frozen=True, slots=True)
class Pareto(Window):
    """Those that no other beats in every metric; see `holdfast.keep.pareto`."""

    metrics_of: tuple[MetricRef, ...]

    def _words(self, group: Group) -> Iterator[Word]:
        refs = [ref.resolved(self) for ref in self.metrics_of]
        title = ", ".join(name for name, _ in refs)
        vectors: list[tuple[float, ...]] = []
        scored: list[CheckpointInfo] = []
        for info in group.infos:
            values = [finite(info.metrics, name) for name, _ in refs]
            lacking = [name for value, (name, _) in zip(values, refs, strict=True) if value is None]
            if lacking:
                yield Word(info, False, f"not on the front of {title}: no {', '.join(lacking)}")
                continue
            scored.append(info)
            vectors.append(
                tuple(
                    value if mode == "min" else -value
                    for value, (_, mode) in zip(values, refs, strict=True)
                    if value is not None
                )
            )
        for info, beaten_by in zip(scored, front(vectors), strict=True):
            shown = ", ".join(f"{name} {number(info.metrics[name])}" for name, _ in refs)
            if beaten_by is None:
                yield Word(info, True, f"on the front of {title}: {shown}")
            else:
                winner = scored[beaten_by].id
                why = f"not on the front of {title}: {shown}; {winner} is as good or better"
                yield Word(info, False, why)

    def _ready(self) -> None:
        for ref in self.metrics_of:
            ref.resolved(self)

    def ranking(self) -> MetricRef | None:
        """Returns the first of its metrics."""
        return self.metrics_of[0]

    def _metrics(self) -> frozenset[str]:
        return frozenset().union(*(ref.names() for ref in self.metrics_of))

    def _bound(self, run: MetricRef) -> Self:
        bound = tuple(ref.bind(run, asker=self) for ref in self.metrics_of)
        return replace(self, metrics_of=bound)

    def __repr__(self) -> str:
        modes = {ref.name: ref.mode for ref in self.metrics_of if ref.mode is not None}
        names = [ref.name for ref in self.metrics_of]
        return expression("keep.pareto", *names, modes=modes or None)


@dataclass(frozen=True, slots=True)
class Everything(Window):
    """All of them; see `holdfast.keep.all`."""

    def _words(self, group: Group) -> Iterator[Word]:
        return map(self._word, group.infos)

    def _word(self, info: CheckpointInfo) -> Word:
        return Word(info, True, "everything is kept")

    def follower(self) -> Follower:
        """Returns what looks at each by itself."""
        return Single(self._word)

    def __repr__(self) -> str:
        return "keep.all()"


@dataclass(frozen=True, slots=True)
class Nothing(Window):
    """None of them; see `holdfast.keep.none`."""

    @property
    def empty(self) -> bool:
        """True."""
        return True

    def at_most(self) -> int | None:
        """Returns 0."""
        return 0

    def _words(self, group: Group) -> Iterator[Word]:
        return map(self._word, group.infos)

    def _word(self, info: CheckpointInfo) -> Word:
        return Word(info, False, "keep.none() keeps nothing")

    def follower(self) -> Follower:
        """Returns what looks at each by itself."""
        return Single(self._word)

    def __repr__(self) -> str:
        return "keep.none()"
