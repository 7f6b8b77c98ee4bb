"""A policy that follows a run says what its plans of the whole run say, whatever happens to it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from holdfast import keep
from holdfast.model import CheckpointInfo, Plan
from holdfast.policy.following import FollowedRun
from holdfast.policy.retention import KeepPolicy
from holdfast.strategy import CheckpointStrategy
from tests.policies.samples import EPOCH, FULL_ITEMS, checkpoint, ids, series

WINDOWS: st.SearchStrategy[KeepPolicy] = st.one_of(
    st.builds(
        lambda n, metric, ties: keep.best(n, metric, ties=ties),
        st.integers(1, 3),
        st.sampled_from(["loss", "acc"]),
        st.sampled_from(["incumbent", "newest"]),
    ),
    st.integers(1, 3).map(keep.latest),
    st.integers(1, 40).map(keep.every),
    st.builds(lambda n, m: keep.every(steps=n, seconds=m), st.integers(1, 40), st.integers(1, 9)),
    st.integers(1, 19).map(lambda n: keep.newer_than(hours=n / 3600)),
    st.integers(1, 19).map(lambda n: keep.unscored("acc", hours=n / 3600)),
    st.sampled_from([keep.tagged(), keep.tagged("a", "b"), keep.all(), keep.pareto("loss", "acc")]),
)
POLICIES = st.one_of(
    st.recursive(
        WINDOWS,
        lambda inner: st.one_of(
            st.builds(lambda a, b: a | b, inner, inner),
            st.builds(lambda a: a.items("model"), inner),
            st.builds(lambda a: a.items("optimizer", "nowhere"), inner),
            st.builds(lambda a: a.capped(60), inner),
        ),
        max_leaves=4,
    ),
    st.sampled_from(
        [
            keep.none(),
            CheckpointStrategy(2, "loss", "min"),
            CheckpointStrategy(2),
            CheckpointStrategy(1, None, "min"),
            CheckpointStrategy(0),
        ]
    ),
)
METRICS = st.dictionaries(
    st.sampled_from(["loss", "acc"]),
    st.sampled_from([0.0, 1.0, 2.0, 3.0, float("nan"), float("inf")]),
)
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


class FollowingMachine(RuleBasedStateMachine):
    """Changes a run, and asks the policy both ways."""

    @initialize(policy=POLICIES)
    def begin(self, policy: KeepPolicy) -> None:
        self.policy = policy
        self.followed = FollowedRun(policy)
        self.there: dict[str, CheckpointInfo] = {}
        self.told: dict[str, tuple[str, ...]] = {}
        self.number = 0
        self.now = EPOCH

    @rule(
        metrics=METRICS,
        back=st.integers(0, 40),
        kind=st.sampled_from(["full", "full", "weights", "metrics"]),
        awaiting=st.sampled_from([(), ("acc",)]),
    )
    def save(self, metrics: dict[str, float], back: int, kind: str, awaiting: Any) -> None:
        self.number += 1
        self.now = max(self.now, EPOCH + self.number)
        step = max(0, 10 * self.number - back)
        shards = {f"s{self.number}": 10 * self.number, f"frozen{self.number % 3}": 7}
        fields = {"step": step, "kind": kind, "awaiting": awaiting, "shards": shards}
        self.learn(checkpoint(self.number, metrics=metrics, **fields))

    @rule(chosen=st.randoms(use_true_random=False), change=st.sampled_from(CHANGES))
    def change(self, chosen: random.Random, change: Callable[..., dict[str, Any]]) -> None:
        if self.there:
            info = chosen.choice(list(self.there.values()))
            self.learn(replace(info, **change(info)))

    @rule(chosen=st.randoms(use_true_random=False))
    def lose(self, chosen: random.Random) -> None:
        if self.there:
            self.forget(chosen.choice(list(self.there)))

    @rule(seconds=st.integers(-5, 10))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(finished=st.sampled_from([False, False, True]), applied=st.booleans())
    def plan(self, finished: bool, applied: bool) -> None:
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
        if applied:
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


def test_following_a_run_plans_what_planning_it_anew_does() -> None:
    chosen = settings(
        max_examples=200,
        stateful_step_count=25,
        deadline=None,
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
    )
    run_state_machine_as_test(FollowingMachine, settings=chosen)


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
