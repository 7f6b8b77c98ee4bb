"""Keep rules that follow a run: told of each checkpoint once, they know whom a newcomer concerns.

A plan looks at all checkpoints of a run. After each save that is the same work again and again, and
for a run that keeps thousands most of the time that a clean-up takes. A follower holds what its
rule goes by in order, and says of whom its word may be another one than last time.
"""

# ruff: noqa: D102 - what the methods of each rule do stands at `Follower`

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from holdfast.model import CheckpointInfo
from holdfast.policy.planning import Claim
from holdfast.policy.ranking import commit_order


class Word(NamedTuple):
    """What a rule says about one checkpoint."""

    info: CheckpointInfo
    stays: bool
    why: str


class Said(NamedTuple):
    """What a policy says about one checkpoint: claims, and why rules pass it over."""

    claims: tuple[Claim, ...]
    passed: tuple[str, ...]


class Follower(ABC):
    """A rule, and the intact checkpoints of one run and one kind that it knows of."""

    @abstractmethod
    def add(self, info: CheckpointInfo) -> None:
        """Takes note of a checkpoint."""

    @abstractmethod
    def remove(self, info: CheckpointInfo) -> None:
        """Forgets a checkpoint, as it was added."""

    @abstractmethod
    def moved(self, now: float) -> set[str]:
        """Returns of whom it may speak otherwise than at the last call, newcomers apart."""

    @abstractmethod
    def says(self, info: CheckpointInfo, now: float) -> Said:
        """Returns what it says about a checkpoint that it knows."""


class Joined(Follower):
    """The followers of one rule, or of several that are joined.

    Args:
        followers: Of each rule.
        asking: Turns a claim into the one that is made of it.
    """

    def __init__(
        self, followers: Iterable[Follower], *, asking: Callable[[Claim], Claim] | None = None
    ) -> None:
        self._followers = tuple(followers)
        self._asking = asking

    def add(self, info: CheckpointInfo) -> None:
        for follower in self._followers:
            follower.add(info)

    def remove(self, info: CheckpointInfo) -> None:
        for follower in self._followers:
            follower.remove(info)

    def moved(self, now: float) -> set[str]:
        return set().union(*(follower.moved(now) for follower in self._followers))

    def says(self, info: CheckpointInfo, now: float) -> Said:
        claims: list[Claim] = []
        passed: list[str] = []
        for follower in self._followers:
            said = follower.says(info, now)
            claims += said.claims if self._asking is None else map(self._asking, said.claims)
            passed += said.passed
        return Said(tuple(claims), tuple(passed))


class Single(Follower):
    """A rule that looks at each checkpoint by itself, and no further.

    Args:
        word: What it says.
    """

    def __init__(self, word: Callable[[CheckpointInfo], Word]) -> None:
        self._word = word

    def add(self, info: CheckpointInfo) -> None:
        pass

    def remove(self, info: CheckpointInfo) -> None:
        pass

    def moved(self, now: float) -> set[str]:
        return set()

    def says(self, info: CheckpointInfo, now: float) -> Said:
        return said(self._word(info))


class Ranked(Follower):
    """A rule that keeps the first so many of an order.

    Args:
        key: What is sorted by; no two checkpoints have the same.
        n: How many it keeps; None for all.
        word: What it says of one, by its rank from 1 on and the number of all.
    """

    def __init__(
        self,
        key: Callable[[CheckpointInfo], Any],
        n: int | None,
        word: Callable[[CheckpointInfo, int, int], Word],
    ) -> None:
        self._key = key
        self._n = n
        self._word = word
        # Beside each other: the keys alone are compared.
        self._keys: list[Any] = []
        self._ids: list[str] = []
        self._moved: set[str] = set()

    def add(self, info: CheckpointInfo) -> None:
        key = self._key(info)
        place = bisect_left(self._keys, key)
        self._keys.insert(place, key)
        self._ids.insert(place, info.id)
        if self._n is not None and place <= self._n < len(self._ids):
            self._moved.add(self._ids[self._n])

    def remove(self, info: CheckpointInfo) -> None:
        place = bisect_left(self._keys, self._key(info))
        del self._keys[place], self._ids[place]
        if self._n is not None and place < self._n <= len(self._ids):
            self._moved.add(self._ids[self._n - 1])

    def moved(self, now: float) -> set[str]:
        moved, self._moved = self._moved, set()
        return moved

    def says(self, info: CheckpointInfo, now: float) -> Said:
        rank = 1 + bisect_left(self._keys, self._key(info))
        return said(self._word(info, rank, len(self._ids)))


class FirstOfWindows(Follower):
    """A rule that keeps the first of each window.

    Args:
        windows: The windows that a checkpoint falls into.
        word: What it says of one, given the id of the first one of each of its windows.
    """

    def __init__(
        self,
        windows: Callable[[CheckpointInfo], Sequence[tuple[str, int]]],
        word: Callable[[CheckpointInfo, Sequence[str]], Word],
    ) -> None:
        self._windows = windows
        self._word = word
        self._within: dict[tuple[str, int], list[tuple[float, int, str]]] = {}
        self._moved: set[str] = set()

    def add(self, info: CheckpointInfo) -> None:
        key = commit_order(info)
        for window in self._windows(info):
            within = self._within.setdefault(window, [])
            if within and key < within[0]:
                self._moved.add(within[0][-1])
            insort(within, key)

    def remove(self, info: CheckpointInfo) -> None:
        key = commit_order(info)
        for window in self._windows(info):
            within = self._within[window]
            del within[bisect_left(within, key)]
            if not within:
                del self._within[window]
            elif key < within[0]:
                self._moved.add(within[0][-1])

    def moved(self, now: float) -> set[str]:
        moved, self._moved = self._moved, set()
        return moved

    def says(self, info: CheckpointInfo, now: float) -> Said:
        firsts = [self._within[window][0][-1] for window in self._windows(info)]
        return said(self._word(info, firsts))


class Aging(Follower):
    """A rule that keeps what is younger than a span.

    Args:
        span: The span, in seconds.
        word: What it says of one, by the time it is asked at.
    """

    def __init__(self, span: float, word: Callable[[CheckpointInfo, float], Word]) -> None:
        self._span = span
        self._word = word
        self._keys: list[tuple[float, str]] = []
        self._now = 0.0

    def add(self, info: CheckpointInfo) -> None:
        insort(self._keys, (info.created_at, info.id))

    def remove(self, info: CheckpointInfo) -> None:
        del self._keys[bisect_left(self._keys, (info.created_at, info.id))]

    def moved(self, now: float) -> set[str]:
        # In either direction: a clock may be set back. By age, as the rule says it: subtracting the
        # span instead would round otherwise.
        ends = sorted((self._young_from(self._now), self._young_from(now)))
        self._now = now
        return {checkpoint_id for _, checkpoint_id in self._keys[slice(*ends)]}

    def says(self, info: CheckpointInfo, now: float) -> Said:
        return said(self._word(info, now))

    def _young_from(self, now: float) -> int:
        return bisect_left(self._keys, True, key=lambda key: now - key[0] < self._span)


def said(word: Word) -> Said:
    """Returns what one word of a rule comes to."""
    return Said((Claim(word.why),), ()) if word.stays else Said((), (word.why,))
