"""Keep policies as wholes: properties of plans, joins, what is refused, how they read."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast import keep, stop, when
from holdfast.errors import ConfigError
from holdfast.model import CheckpointInfo
from holdfast.policy.pareto import front
from holdfast.policy.retention import KeepPolicy
from holdfast.strategy import CheckpointStrategy
from tests.policies.samples import EPOCH, carry_out, checkpoint, ids

NOW = EPOCH + 20
VALUES = st.none() | st.sampled_from([0.0, 1.0, 2.0, 3.0, float("nan"), float("inf")])
INFOS = st.lists(
    st.tuples(
        VALUES, VALUES, st.integers(0, 60), st.booleans(), st.sampled_from(["full", "weights"])
    ),
    max_size=9,
).map(
    lambda rows: [
        checkpoint(
            number,
            step=step,
            kind=kind,
            tags=("a",) if tagged else (),
            metrics={
                name: value for name, value in (("loss", loss), ("acc", acc)) if value is not None
            },
            shards={f"s{number}": 10 * number, f"frozen{number % 3}": 7},
        )
        for number, (loss, acc, step, tagged, kind) in enumerate(rows, start=1)
    ]
)
WINDOWS = st.one_of(
    st.builds(
        lambda n, mode, ties: keep.best(n, "loss", mode=mode, ties=ties),
        st.integers(1, 3),
        st.sampled_from([None, "min", "max"]),
        st.sampled_from(["incumbent", "newest"]),
    ),
    st.integers(1, 3).map(keep.latest),
    st.integers(1, 30).map(keep.every),
    st.integers(1, 4).map(lambda n: keep.every(seconds=n)),
    st.integers(1, 19).map(lambda n: keep.newer_than(hours=n / 3600)),
    st.sampled_from([keep.pareto("loss", "acc"), keep.pareto("loss", modes={"loss": "max"})]),
    st.sampled_from([keep.tagged(), keep.tagged("a", "b"), keep.all()]),
)
UNIONS = st.recursive(
    WINDOWS,
    lambda inner: st.one_of(
        st.builds(lambda a, b: a | b, inner, inner),
        st.builds(lambda a: a.items("model"), inner),
        st.builds(lambda a: a.items("optimizer", "nowhere"), inner),
    ),
    max_leaves=4,
)
POLICIES = UNIONS | st.builds(
    lambda a, n, b: a.capped(n) | b, UNIONS, st.integers(1, 200), st.just(keep.none()) | UNIONS
)


def chosen(policy: KeepPolicy, infos: list[CheckpointInfo]) -> dict[str, tuple[str, ...]]:
    """What the policy itself keeps of each checkpoint, as items."""
    plan = policy.plan(infos, now=NOW, finished=True)
    return {info.id: plan.remaining.get(info.id, info.items) for info in plan.kept}


@settings(max_examples=250, deadline=None)
@given(UNIONS, INFOS)
def test_plans_applied_one_after_another_come_to_the_same_as_one_plan_over_all(policy, infos):
    there: list[CheckpointInfo] = []
    for count, info in enumerate(infos, start=1):
        plan = policy.plan([*there, info], now=NOW)
        whole = policy.plan(infos[:count], now=NOW)
        assert ids(plan.kept) == ids(whole.kept)
        there = carry_out(plan)
        # Under the protection of the newest, the policy's own choice is the same as well.
        assert set(chosen(policy, there)) == set(chosen(policy, infos[:count]))
    final = {info.id: info.items for info in carry_out(policy.plan(infos, now=NOW))}
    assert {info.id: info.items for info in there} == final


@settings(max_examples=150, deadline=None)
@given(POLICIES, INFOS, st.randoms(use_true_random=False), st.booleans())
def test_a_plan_does_not_depend_on_the_order_of_its_input(policy, infos, chance, finished):
    shuffled = list(infos)
    chance.shuffle(shuffled)
    plan = policy.plan(infos, now=NOW, finished=finished)
    assert policy.plan(iter(shuffled), now=NOW, finished=finished) == plan


@settings(max_examples=200, deadline=None)
@given(POLICIES, INFOS, st.booleans(), st.data())
def test_a_plan_accounts_for_every_checkpoint_and_protects_what_it_must(
    policy, infos, finished, data
):
    flags = [data.draw(st.sampled_from(["", "damaged", "pinned"])) for _ in infos]
    infos = [
        replace(info, **{flag: True}) if flag else info
        for info, flag in zip(infos, flags, strict=True)
    ]
    plan = policy.plan(infos, now=NOW, finished=finished)
    assert sorted(ids(plan.kept) + ids(plan.deleted), key=int) == ids(infos)
    assert set(plan.reasons) == set(ids(infos))
    assert all(plan.reasons.values())
    assert set(plan.remaining) == set(ids(plan.thinned)) <= set(ids(plan.kept))
    for part in (plan.kept, plan.deleted, plan.thinned):
        assert list(part) == sorted(part, key=lambda info: info.created_at)
    for info in infos:
        if info.damaged or info.pinned:
            assert plan.fate(info.id) == "kept"
        rest = plan.remaining.get(info.id)
        assert rest is None or (rest and set(rest) < set(info.items))
    whole = [info for info in infos if info.kind == "full" and not info.damaged]
    if whole and not finished:
        assert plan.fate(whole[-1].id) == "kept"
    left = {name for info in plan.kept for name in info.shards}
    every = {name: size for info in infos for name, size in info.shards.items()}
    assert plan.freed_nbytes == sum(size for name, size in every.items() if name not in left)


@settings(max_examples=100, deadline=None)
@given(UNIONS, INFOS, st.integers(1, 200))
def test_under_a_cap_what_is_left_fits_or_is_protected(policy, infos, limit):
    plan = policy.capped(limit).plan(infos, now=NOW)
    held = {name: size for info in plan.kept for name, size in info.shards.items()}
    fits = sum(held.values()) <= limit
    told = {info.id for info in plan.kept if "exceeded" in " ".join(plan.reasons[info.id])}
    newest = [info.id for info in infos if info.kind == "full"][-1:]
    assert fits or told == set(newest)
    assert set(ids(plan.kept)) <= set(ids(policy.plan(infos, now=NOW).kept))


@settings(max_examples=150, deadline=None)
@given(UNIONS, UNIONS, INFOS)
def test_a_union_keeps_what_either_keeps(first, second, infos):
    one, other, both = (chosen(policy, infos) for policy in (first, second, first | second))
    assert set(both) == set(one) | set(other)
    for name, items in both.items():
        assert set(items) >= {*one.get(name, ()), *other.get(name, ())}


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 5).flatmap(
        lambda width: st.lists(st.tuples(*[st.integers(0, 3).map(float)] * width), max_size=25)
    )
)
def test_the_front_is_what_comparing_all_pairs_finds(vectors):
    def beats(one: int, other: int) -> bool:
        no_worse = all(a <= b for a, b in zip(vectors[one], vectors[other], strict=True))
        return no_worse and (vectors[one] != vectors[other] or one < other)

    for index, by in enumerate(front(vectors)):
        beaten = [other for other in range(len(vectors)) if other != index and beats(other, index)]
        assert (by is None) == (not beaten)
        assert by is None or by in beaten


POLICY_TEXTS = [
    keep.best(10, "val_loss").items("model") | keep.latest(2),
    keep.best(3, mode="max", ties="newest"),
    keep.every(steps=100, seconds=0.5),
    keep.newer_than(days=2, hours=0.5),
    keep.tagged(),
    keep.tagged("a", "b"),
    keep.unscored("val_loss", hours=2),
    keep.pareto("loss", "gap", modes={"gap": "max"}),
    (keep.all() | keep.best(1, "loss")).items("model", "rng").capped("2GB"),
    keep.none().capped(5, metric="gap", mode="min") | keep.latest(3).capped(1000),
    CheckpointStrategy(2, "loss", "min"),
    CheckpointStrategy(),
]


@pytest.mark.parametrize("policy", POLICY_TEXTS, ids=str)
def test_the_text_of_a_policy_is_the_expression_that_makes_it(policy):
    names = {"keep": keep, "CheckpointStrategy": CheckpointStrategy}
    assert eval(str(policy), names) == policy
    assert eval(repr(policy), names) == policy
    assert len({policy, eval(repr(policy), names)}) == 1


def test_the_text_reads_as_people_write_it():
    assert str(POLICY_TEXTS[0]) == "keep.best(10, 'val_loss').items('model') | keep.latest(2)"


BIND = [
    (keep.best(2), ("gap", "max"), "keep.best(2, 'gap', mode='max')"),
    (keep.best(2).items("model") | keep.latest(1), ("loss", "min"),
     "keep.best(2, 'loss').items('model') | keep.latest(1)"),
    (keep.best(2, "gap"), ("gap", "max"), "keep.best(2, 'gap', mode='max')"),
    (keep.unscored(None, hours=1), ("gap", None), "keep.unscored('gap', hours=1)"),
    (keep.pareto("gap", "loss"), ("gap", "min"),
     "keep.pareto('gap', 'loss', modes={'gap': 'min'})"),
    (keep.latest(1).capped("1GB"), ("loss", None), "keep.latest(1).capped('1GB', metric='loss')"),
    (keep.latest(1).capped("1GB"), (None, None), "keep.latest(1).capped('1GB')"),
    (keep.best(1).capped("1GB"), ("loss", None), "keep.best(1, 'loss').capped('1GB')"),
    (CheckpointStrategy(1), ("loss", "min"), "CheckpointStrategy(1, None, 'max')"),
]  # fmt: skip


@pytest.mark.parametrize(("policy", "run", "bound"), BIND)
def test_a_policy_takes_from_the_run_what_it_leaves_open(policy, run, bound):
    assert repr(policy.bind(*run)) == bound
    assert policy.bind(*run).bind(*run) == policy.bind(*run)


@pytest.mark.parametrize(
    ("policy", "run"),
    [
        (keep.best(1), (None, None)),
        (keep.best(1) | keep.latest(1), ("gap", None)),
        (keep.pareto("loss", "gap"), ("loss", None)),
        (keep.unscored(None, 1), (None, None)),
    ],
)
def test_binding_fails_where_a_metric_or_a_direction_is_still_missing(policy, run):
    with pytest.raises(ConfigError, match="metric"):
        policy.bind(*run)


def test_the_metrics_of_a_policy_are_found_at_any_depth():
    policy = keep.best(1, "a_loss").items("m") | keep.pareto("b_loss", "c_acc").capped(1)
    assert (policy | keep.unscored("d", 1)).metrics() == {"a_loss", "b_loss", "c_acc", "d"}
    assert keep.latest(2).capped(1, metric="e_loss").metrics() == {"e_loss"}
    assert CheckpointStrategy(1, "f").metrics() == {"f"}


WRONG = [
    (lambda: keep.best(0), "keep.none()"),
    (lambda: keep.best(-3), "n=-3"),
    (lambda: keep.best(True), "bool"),
    (lambda: keep.best(2.0), "float"),
    (lambda: keep.best("loss"), "str"),
    (lambda: keep.best(1, "loss", mode="down"), "'down'"),
    (lambda: keep.best(1, "loss", ties="oldest"), "'oldest'"),
    (lambda: keep.best(1, ""), "metric's name"),
    (lambda: keep.latest(0), "keep.none()"),
    (keep.every, "how often"),
    (lambda: keep.every(0), "steps=0"),
    (lambda: keep.every(seconds=-1), "seconds=-1"),
    (keep.newer_than, "no age"),
    (lambda: keep.newer_than(days=-1, hours=48), "no age"),
    (lambda: keep.tagged(""), "not a tag"),
    (lambda: keep.tagged(3), "not a tag"),
    (lambda: keep.unscored("loss", 0), "hours=0"),
    (keep.pareto, "names no metric"),
    (lambda: keep.pareto("loss", modes={"acc": "max"}), "'acc'"),
    (lambda: keep.pareto("loss", modes={"loss": "up"}), "'up'"),
    (lambda: keep.all().items(), "names no item"),
    (lambda: keep.all().items(""), "item's name"),
    (lambda: keep.all().items(("model",)), "item's name"),
    (lambda: keep.all().capped(5, metric="loss", mode="up"), "'up'"),
    (lambda: keep.all() | 3, "int is no KeepPolicy"),
    (lambda: [] | keep.all(), "list is no KeepPolicy"),
    (lambda: keep.all() | when.always(), "is no KeepPolicy"),
    (lambda: keep.all() | stop.diverged("loss"), "is no KeepPolicy"),
    (lambda: keep.all() or keep.none(), "no truth value"),
    (lambda: keep.all() | CheckpointStrategy(1), "stands alone"),
    (lambda: CheckpointStrategy(1).items("model") | keep.all(), "stands alone"),
    (lambda: CheckpointStrategy(-1), "num_to_keep=-1"),
    (lambda: CheckpointStrategy(True), "bool"),
    (lambda: CheckpointStrategy(1, ""), "metric's name"),
    (lambda: CheckpointStrategy(1, "loss", "lowest"), "'lowest'"),
    (lambda: CheckpointStrategy(1, "loss", None), "None"),
]


@pytest.mark.parametrize(("make", "text"), WRONG)
def test_what_cannot_be_meant_is_refused_when_it_is_written(make, text):
    with pytest.raises(ConfigError) as caught:
        make()
    assert text in str(caught.value)
    assert caught.value.hint
