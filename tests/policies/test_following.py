"""A policy that follows a run says what its plans of the whole run say, whatever happens to it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from holdfast import keep
from holdfast.model import CheckpointInfo, Plan
from holdfast.policy.following import FollowedRun
from holdfast.policy.retention import KeepPolicy
from holdfast.strategy import CheckpointStrategy
from tests.policies.samples import EPOCH, FULL_ITEMS, checkpoint, ids, series

SECOND = 1 / 3600
POLICIES: list[KeepPolicy] = [
    keep.all(),
    keep.none(),
    keep.latest(2),
    keep.best(2, "loss"),
    keep.best(2, "loss", ties="newest"),
    keep.best(3, "acc") | keep.latest(1),
    keep.best(1, "loss") | keep.every(25),
    keep.best(2, "loss") | keep.all(),
    keep.latest(2) | keep.best(1, "acc").items("model") | keep.tagged("a"),
    keep.every(25),
    keep.every(steps=40, seconds=7),
    keep.every(steps=25) | keep.all().items("model"),
    keep.newer_than(hours=8 * SECOND),
    keep.newer_than(hours=8 * SECOND) | keep.best(2, "loss"),
    keep.newer_than(hours=8 * SECOND) | keep.all().items("model"),
    keep.unscored("acc", hours=8 * SECOND) | keep.latest(1),
    keep.tagged(),
    keep.tagged("a", "b") | keep.best(1, "loss").items("optimizer", "nowhere"),
    (keep.best(2, "loss") | keep.latest(1)).items("model"),
    keep.pareto("loss", "acc") | keep.latest(1),
    keep.all().capped(120, metric="loss"),
    CheckpointStrategy(2, "loss", "min"),
    CheckpointStrategy(2),
    CheckpointStrategy(1, None, "min"),
    CheckpointStrategy(0),
]
VALUES = [0.0, 1.0, 1.0, 2.0, 3.0, float("nan"), float("inf"), None]
CHANGES: list[Callable[[CheckpointInfo], dict[str, Any]]] = [
    lambda info: {"pinned": not info.pinned},
    lambda info: {"damaged": not info.damaged},
    lambda info: {"tags": () if info.tags else ("a",)},
    lambda info: {"metrics": {**info.metrics, "acc": 1.5}},
    lambda info: {"metrics": {"loss": 0.5}},
    lambda _: {"thinned": True, "items": ("model",)},
]


def titles(sentences: tuple[str, ...]) -> tuple[str, ...]:
    """Reasons without their numbers."""
    return tuple(sentence.partition(":")[0] for sentence in sentences)


class Course:
    """Random things that happen to a run; the policy is asked both ways."""

    def __init__(self, policy: KeepPolicy, chance: random.Random) -> None:
        self.policy = policy
        self.chance = chance
        self.followed = FollowedRun(policy)
        self.there: dict[str, CheckpointInfo] = {}
        self.told: dict[str, tuple[str, ...]] = {}
        self.number = 0
        self.compared = 0
        self.now = EPOCH

    def save(self) -> None:
        self.number += 1
        self.now = max(self.now, EPOCH + self.number)
        values = {name: self.chance.choice(VALUES) for name in ("loss", "acc")}
        info = checkpoint(
            self.number,
            step=max(0, 10 * self.number - self.chance.randrange(40)),
            kind=self.chance.choice(["full", "full", "full", "weights", "metrics"]),
            awaiting=self.chance.choice([(), (), (), ("acc",)]),
            metrics={name: value for name, value in values.items() if value is not None},
            shards={f"s{self.number}": 10 * self.number, f"frozen{self.number % 3}": 7},
        )
        self.learn(info)

    def change(self) -> None:
        if self.there:
            info = self.chance.choice(list(self.there.values()))
            self.learn(replace(info, **self.chance.choice(CHANGES)(info)))

    def lose(self) -> None:
        if self.there:
            self.forget(self.chance.choice(list(self.there)))

    def wait(self) -> None:
        self.now += self.chance.choice([-5, 1, 3, 10])

    def plan(self) -> None:
        finished = self.chance.random() < 0.1
        whole = self.policy.plan(self.there.values(), now=self.now, finished=finished)
        news = self.followed.plan(now=self.now, finished=finished)
        assert news.deleted == whole.deleted
        assert news.thinned == whole.thinned
        assert news.remaining == whole.remaining
        assert {*ids(news.thinned)} <= {*ids(news.kept)} <= {*ids(whole.kept)}
        assert news.reasons.keys() == {info.id for info in (*news.kept, *news.deleted)}
        assert all(whole.reasons[i] == why for i, why in news.reasons.items())
        self.told.update({i: titles(why) for i, why in news.reasons.items()})
        assert all(self.told[info.id] == titles(whole.reasons[info.id]) for info in whole.kept)
        self.compared += 1
        if self.chance.random() < 0.6:
            self.carry_out(news)

    def carry_out(self, plan: Plan) -> None:
        for info in plan.deleted:
            self.forget(info.id)
        for info in plan.thinned:
            self.learn(replace(info, items=plan.remaining[info.id], thinned=True))

    def learn(self, info: CheckpointInfo) -> None:
        self.there[info.id] = info
        self.followed.learn(info)

    def forget(self, checkpoint_id: str) -> None:
        del self.there[checkpoint_id]
        self.told.pop(checkpoint_id, None)
        self.followed.forget(checkpoint_id)


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_following_a_run_plans_what_planning_it_anew_does(policy: KeepPolicy) -> None:
    for seed in range(25):
        course = Course(policy, random.Random(seed))
        events = [course.save, course.change, course.lose, course.wait, course.plan]
        for event in course.chance.choices(events, [4, 2, 1, 1, 4], k=80):
            event()
        assert course.compared > 10


def test_equal_times_and_steps_are_told_apart_by_their_ids() -> None:
    infos = [checkpoint(1, 1.0, id=name, step=0, created_at=EPOCH) for name in "bca"]
    for policy in (keep.latest(1), keep.best(1, "loss"), keep.best(1, "loss", ties="newest")):
        run = FollowedRun(policy)
        for info in infos:
            run.learn(info)
        plan = run.plan(now=EPOCH, finished=True)
        assert plan.deleted == policy.plan(infos, now=EPOCH, finished=True).deleted


def followed(policy: KeepPolicy, infos: list[CheckpointInfo]) -> FollowedRun:
    """A run that is followed, with a first plan behind it."""
    run = FollowedRun(policy)
    for info in infos:
        run.learn(info)
    run.plan(now=EPOCH + 100, finished=False)
    return run


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        (keep.all(), ["4", "5"]),
        (keep.best(9, "loss"), ["4", "5"]),
        (keep.latest(3) | keep.every(1), ["2", "4", "5"]),
        (keep.newer_than(hours=1), ["4", "5"]),
    ],
)
def test_of_what_stays_for_the_same_rules_nothing_is_said(
    policy: KeepPolicy, told: list[str]
) -> None:
    run = followed(policy, series([4.0, 3.0, 2.0, 1.0]))
    run.learn(checkpoint(5, 0.5))
    plan = run.plan(now=EPOCH + 200, finished=False)
    assert (ids(plan.kept), plan.deleted) == (told, ())
    assert ids(run.plan(now=EPOCH + 300, finished=False).kept) == []


def test_what_was_not_deleted_after_all_is_planned_again() -> None:
    run = followed(keep.latest(1), series([1.0, 2.0]))
    for _ in range(2):
        assert ids(run.plan(now=EPOCH, finished=False).deleted) == ["1"]
    run.forget("1")
    assert run.plan(now=EPOCH, finished=False).deleted == ()


def test_what_is_thinned_already_is_left_alone() -> None:
    run = followed(keep.latest(2).items("model"), series([1.0, 2.0]))
    assert ids(run.plan(now=EPOCH, finished=False).thinned) == ["1"]
    run.learn(checkpoint(1, 1.0, items=FULL_ITEMS[:1], thinned=True))
    assert run.plan(now=EPOCH, finished=False).thinned == ()


def test_what_was_told_before_is_not_told_again() -> None:
    run = FollowedRun(keep.latest(2), told={"1": ["latest 2: number 1", "newest of its run: x"]})
    for info in series([1.0, 2.0]):
        run.learn(info)
    plan = run.plan(now=EPOCH, finished=False)
    assert plan.reasons == {
        "1": ("latest 2: number 2",),
        "2": ("latest 2: number 1", "newest of its run: nothing newer is durable yet"),
    }
    run = FollowedRun(keep.latest(2), told={"1": ["latest 2: number 1"]})
    for info in series([1.0, 2.0]):
        run.learn(info)
    assert ids(run.plan(now=EPOCH, finished=False).kept) == ["2"]
