"""Keep rules: each looks at the checkpoints of one kind in one run and says which it keeps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from holdfast.model import CheckpointInfo
from holdfast.policy.metric import MetricRef, finite
from holdfast.policy.pareto import front
from holdfast.policy.policy import OfMetric
from holdfast.policy.ranking import Ties, best_first
from holdfast.policy.retention import Group, Window, Word
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
        title = f"best {self.n} by {name}"
        ranked = best_first(group.infos, name, mode=mode, ties=self.ties)
        for rank, info in enumerate(ranked, start=1):
            value = info.metrics.get(name)
            shown = "without a value" if value is None else f"with {number(value)}"
            if rank <= self.n:
                yield Word(info, True, f"{title}: rank {rank} {shown}")
            else:
                yield Word(info, False, f"not among the {title}: rank {rank} {shown}")

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
        for place, info in enumerate(reversed(group.infos), start=1):
            if place <= self.n:
                yield Word(info, True, f"latest {self.n}: number {place}")
            else:
                yield Word(info, False, f"not among the latest {self.n}: number {place}")

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
            opened, taken = [], []
            for window, title in self._windows(info):
                holder = first.setdefault(window, info.id)
                if holder == info.id:
                    opened.append(f"first of {title}")
                else:
                    taken.append(f"not the first of {title}: {holder} is")
            yield Word(info, bool(opened), "; ".join(opened or taken))

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
        now = group.now or 0.0
        span = 86400 * self.days + 3600 * self.hours
        for info in group.infos:
            age = now - info.created_at
            if age < span:
                yield Word(info, True, f"newer than {duration(span)}: {duration(age)} old")
            else:
                yield Word(info, False, f"not newer than {duration(span)}: {duration(age)} old")

    def __repr__(self) -> str:
        return expression("keep.newer_than", days=self.days or None, hours=self.hours or None)


@dataclass(frozen=True, slots=True)
class Tagged(Window):
    """Those that carry a tag; see `holdfast.keep.tagged`."""

    tags: tuple[str, ...]

    def _words(self, group: Group) -> Iterator[Word]:
        for info in group.infos:
            found = [tag for tag in info.tags if not self.tags or tag in self.tags]
            if found:
                yield Word(info, True, f"tagged {', '.join(found)}")
            else:
                yield Word(info, False, f"not tagged {' or '.join(self.tags) or 'at all'}")

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
        name, now = self.metric.required(self), group.now or 0.0
        span = 3600 * self.hours
        for info in group.infos:
            age = now - info.created_at
            if name in info.metrics:
                yield Word(info, False, f"{name} is there: nothing to wait for")
            elif age < span:
                yield Word(info, True, f"{name} may still come: {duration(age)} old")
            else:
                yield Word(info, False, f"{name} did not come in {duration(span)}")

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
        for info in group.infos:
            yield Word(info, True, "everything is kept")

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
        for info in group.infos:
            yield Word(info, False, "keep.none() keeps nothing")

    def __repr__(self) -> str:
        return "keep.none()"
