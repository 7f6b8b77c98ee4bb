"""Keep rules: what each keeps, and what no rule can take away."""

from __future__ import annotations

import itertools
import math

import pytest

from holdfast import keep, strategy
from holdfast.errors import ConfigError
from holdfast.model import CheckpointInfo
from holdfast.policy.ranking import best_of
from holdfast.policy.retention import KeepPolicy
from tests.policies.samples import EPOCH, carry_out, checkpoint, ids, save_one_by_one, series

NAN, INF = math.nan, math.inf
STRATEGY = strategy.CheckpointStrategy

CASES = [
    # losses in order, policy, survivors (a star: thinned), best
    ([2, 4, 1, 3], STRATEGY(2, "loss", "min"), "1 3", "3"),
    ([1, 1, 1, 1], STRATEGY(2, "loss", "min"), "1 2", "1"),
    ([2, 4, 1, 3], keep.best(2, "loss"), "1 3 4", "3"),
    ([NAN, 3, 7, 5], keep.best(2, "loss"), "2 4", "2"),
    (list(range(10)), keep.latest(2), "9 10", "9"),
    ([4, 3, 2, 1], keep.best(2, "loss"), "3 4", "4"),
    ([4, 3, 2, 1, 5], keep.best(2, "loss"), "3 4 5", "4"),
    ([3, 2, 1, 4], keep.best(2, "loss").items("model") | keep.latest(1), "2* 3* 4", "3"),
]


@pytest.mark.parametrize(("losses", "policy", "kept", "best"), CASES)
def test_applied_after_each_save_the_agreed_checkpoints_survive(losses, policy, kept, best):
    left = save_one_by_one(policy, series(losses))
    assert " ".join(info.id + "*" * info.thinned for info in left) == kept
    found = best_of(left, "loss", mode="min")
    assert found is not None
    assert found.id == best


def survivors(policy: KeepPolicy, infos: list[CheckpointInfo], **options: object) -> str:
    """Ids of what a finished run keeps: the policy's own choice."""
    return " ".join(ids(policy.plan(infos, finished=True, **options).kept))


BEST = [
    ([3, 1, 2], {"n": 2}, "2 3"),
    ([3, 1, 2], {"n": 2, "mode": "max"}, "1 3"),
    ([3, 1, 2], {"n": 5}, "1 2 3"),
    ([1, 1, 1], {"n": 2}, "1 2"),
    ([1, 1, 1], {"n": 2, "ties": "newest"}, "2 3"),
    ([NAN, 5, None, INF, -INF], {"n": 1}, "2"),
    ([NAN, 5, None, INF, -INF], {"n": 1, "mode": "max"}, "2"),
    ([NAN, 5, None, INF, -INF], {"n": 3}, "2 4 5"),
    ([NAN, None], {"n": 1}, "2"),
    ([NAN, None], {"n": 1, "ties": "newest"}, "2"),
]


@pytest.mark.parametrize(("losses", "arguments", "kept"), BEST)
def test_best_ranks_numbers_first_then_the_rest_newest_first(losses, arguments, kept):
    assert survivors(keep.best(metric="loss", **arguments), series(losses)) == kept


@pytest.mark.parametrize("order", list(itertools.permutations([1, 2, 3, 4, NAN])))
def test_a_nan_never_pushes_a_number_out_in_any_order(order):
    left = save_one_by_one(keep.best(2, "loss"), series(order))
    values = [info.metrics["loss"] for info in left]
    assert {1, 2} <= set(values)
    assert set(values) <= {1, 2, order[-1]}


def test_every_keeps_the_first_of_each_window_of_steps():
    infos = [checkpoint(n, step=step) for n, step in enumerate([0, 99, 101, 150, 305, 399, 400], 1)]
    assert survivors(keep.every(steps=100), infos) == "1 3 5 7"


def test_every_goes_by_commit_not_by_step_after_a_rollback():
    infos = [checkpoint(n, step=step) for n, step in enumerate([120, 180, 110, 205], 1)]
    assert survivors(keep.every(steps=100), infos) == "1 4"


def test_every_aligns_windows_of_seconds_to_the_epoch():
    infos = [
        checkpoint(n, created_at=60 * 1000 + at) for n, at in enumerate([-1, 0, 59, 60, 61], 1)
    ]
    assert survivors(keep.every(seconds=60), infos) == "1 2 4"
    assert survivors(keep.every(steps=10**6, seconds=60), infos) == "1 2 4"


def test_newer_than_keeps_what_is_below_the_age():
    infos = [checkpoint(n, created_at=EPOCH + 3600 * n) for n in range(6)]
    now = EPOCH + 3600 * 5
    assert survivors(keep.newer_than(hours=2), infos, now=now) == "4 5"
    assert survivors(keep.newer_than(days=0.125), infos, now=now) == "3 4 5"


def test_tagged_keeps_any_of_its_tags_or_any_tag():
    infos = [checkpoint(1), checkpoint(2, tags=("a",)), checkpoint(3, tags=("b", "c"))]
    assert survivors(keep.tagged("c", "d"), infos) == "3"
    assert survivors(keep.tagged(), infos) == "2 3"


def test_unscored_waits_for_a_score_while_it_is_young():
    infos = [
        checkpoint(1, created_at=EPOCH - 7200),
        checkpoint(2, created_at=EPOCH - 7199),
        checkpoint(3, 0.5, created_at=EPOCH - 10),
    ]
    assert survivors(keep.unscored("loss", hours=2), infos, now=EPOCH) == "2"


def test_pareto_keeps_the_front_and_the_incumbent_of_equals():
    points = [(1, 1), (2, 2), (1, 2), (0.5, 0.5), (1, 2), (NAN, 9), (0.1, INF), (1, 1)]
    infos = [
        checkpoint(n, metrics={"loss": loss, "acc": acc}) for n, (loss, acc) in enumerate(points, 1)
    ]
    assert survivors(keep.pareto("loss", "acc"), infos) == "3 4"
    assert survivors(keep.pareto("loss", "acc", modes={"acc": "min"}), infos) == "4"
    assert survivors(keep.pareto("loss", "acc", modes={"loss": "max"}), infos) == "2"


def test_all_keeps_everything_and_none_nothing():
    infos = series([1, 2, 3])
    assert survivors(keep.all(), infos) == "1 2 3"
    assert ids(keep.none().plan(infos).kept) == []
    assert keep.none().plan(infos).reasons["3"] == ("keep.none() keeps nothing",)


def test_none_joined_with_a_policy_is_that_policy():
    other = keep.latest(2)
    assert keep.none() | other == other
    assert other | keep.none() | keep.none() == other
    assert keep.none() | keep.none() == keep.none()
    assert ids((keep.none() | keep.best(1, "loss")).plan(series([1, 2, 3])).kept) == ["1", "3"]


@pytest.mark.parametrize(
    "policy",
    [
        keep.best(1, "loss"),
        keep.every(steps=10**6),
        keep.tagged("x"),
        keep.latest(1).items("model"),
        keep.best(1, "loss").capped(1),
        keep.tagged("x") | keep.best(1, "loss"),
    ],
)
def test_newest_checkpoint_survives_a_stricter_policy_whole(policy):
    plan = policy.plan(series([1, 2, 3]))
    assert plan.fate("3") == "kept"
    assert "newest of its run: nothing newer is durable yet" in plan.reasons["3"]


def test_a_finished_run_has_no_newest_to_protect():
    assert ids(keep.best(1, "loss").plan(series([1, 2, 3]), finished=True).kept) == ["1"]


def test_newest_is_what_was_committed_last_whatever_its_step():
    infos = [checkpoint(1, 1.0, step=1000), checkpoint(2, 2.0, step=910)]
    assert ids(keep.tagged("x").plan(infos).kept) == ["2"]


@pytest.mark.parametrize(
    "fields", [{"damaged": True}, {"thinned": True}, {"kind": "weights"}, {"kind": "metrics"}]
)
def test_newest_counts_intact_full_checkpoints_only(fields):
    plan = keep.tagged("x").plan([checkpoint(1, 1.0), checkpoint(2, 2.0, **fields)])
    assert plan.reasons["1"] == ("newest of its run: nothing newer is durable yet",)


def test_each_run_has_its_own_newest_and_its_own_windows():
    infos = [checkpoint(n, float(n), run=run) for n, run in enumerate("abab", 1)]
    assert ids(keep.best(1, "loss").plan(infos).kept) == ["1", "2", "3", "4"]
    assert survivors(keep.best(1, "loss"), infos) == "1 2"


def test_kinds_are_planned_among_themselves():
    kinds = ["full", "weights", "full", "weights", "metrics"]
    infos = [checkpoint(n, float(n), kind=kind) for n, kind in enumerate(kinds, 1)]
    assert survivors(keep.best(1, "loss"), infos) == "1 2 5"
    assert survivors(keep.latest(1), infos) == "3 4 5"


@pytest.mark.parametrize("policy", [keep.best(1, "loss"), keep.none(), STRATEGY(1, "loss", "min")])
def test_a_damaged_checkpoint_takes_no_place_and_is_set_aside(policy):
    infos = [checkpoint(1, 2.0), checkpoint(2, 1.0, damaged=True), checkpoint(3, 3.0)]
    plan = policy.plan(infos, finished=True)
    assert plan.fate("2") == "kept"
    assert plan.reasons["2"] == ("damaged: set aside, takes no place",)
    assert plan.fate("1") == ("deleted" if policy == keep.none() else "kept")


@pytest.mark.parametrize("policy", [keep.best(1, "loss").items("model"), keep.none(), STRATEGY(0)])
def test_a_pinned_checkpoint_stays_whole_and_takes_part_in_the_ranking(policy):
    infos = [checkpoint(1, 1.0, pinned=True), checkpoint(2, 2.0)]
    plan = policy.plan(infos, finished=True)
    assert plan.fate("1") == "kept"
    assert "pinned: no policy deletes it" in plan.reasons["1"]
    assert ids(plan.deleted) == ["2"]


@pytest.mark.parametrize("policy", [keep.best(1, "loss").items("model"), keep.none(), STRATEGY(0)])
def test_what_awaits_a_score_stays_until_it_is_reported_or_the_run_ends(policy):
    late = {"awaiting": ("val_loss", "bleu")}
    waiting = checkpoint(1, 9.0, **late)
    scored = checkpoint(1, metrics={"loss": 9.0, "val_loss": 1.0, "bleu": 1.0}, **late)
    newest = checkpoint(2, 1.0)
    plan = policy.plan([waiting, newest])
    assert plan.reasons["1"][-1] == "awaiting val_loss, bleu: not deleted before it is reported"
    assert plan.fate("1") == "kept"
    assert policy.plan([scored, newest]).fate("1") == "deleted"
    assert policy.plan([waiting, newest], finished=True).fate("1") == "deleted"


@pytest.mark.parametrize(
    ("items", "asked", "fate", "remaining"),
    [
        (("model", "optimizer"), ("model",), "thinned", ("model",)),
        (("model", "optimizer", "rng"), ("rng", "model"), "thinned", ("model", "rng")),
        (("model",), ("model",), "kept", None),
        (("model", "optimizer"), ("modle",), "kept", None),
        ((), ("model",), "thinned", ("model",)),
    ],
)
def test_items_thin_a_checkpoint_but_never_empty_it(items, asked, fate, remaining):
    infos = [checkpoint(1, 1.0, items=items), checkpoint(2, 2.0)]
    plan = keep.best(1, "loss").items(*asked).plan(infos)
    assert plan.fate("1") == fate
    assert plan.remaining.get("1") == remaining
    assert ("1" in ids(plan.thinned)) == (fate == "thinned")
    assert "1" in ids(plan.kept)


def test_a_misspelt_item_is_told():
    plan = keep.latest(1).items("modle").plan(series([1, 2]), finished=True)
    assert plan.reasons["2"] == (
        "latest 1: number 1 (items modle)",
        "kept whole: it holds none of the items asked for (modle); its items are model, optimizer",
    )


def test_of_two_claims_the_one_that_keeps_more_wins():
    infos = [checkpoint(1, 1.0, items=("model", "optimizer", "rng")), checkpoint(2, 2.0)]
    models = keep.best(1, "loss").items("model")
    plan = (models | keep.best(1, "loss").items("rng")).plan(infos)
    assert plan.remaining["1"] == ("model", "rng")
    assert plan.reasons["1"] == (
        "best 1 by loss: rank 1 with 1 (items model)",
        "best 1 by loss: rank 1 with 1 (items rng)",
    )
    assert (models | keep.latest(2)).plan(infos).fate("1") == "kept"
    assert models.items("rng").plan(infos).fate("1") == "kept"


def test_a_checkpoint_of_metrics_alone_has_nothing_to_thin():
    plan = keep.latest(1).items("model").plan([checkpoint(1, 1.0, kind="metrics", items=())])
    assert plan.thinned == ()


def test_a_thinned_checkpoint_keeps_its_place():
    policy = keep.best(1, "loss").items("model")
    left = carry_out(policy.plan(series([1, 2])))
    plan = policy.plan([*left, checkpoint(3, 3.0)])
    assert ids(plan.kept) == ["1", "3"]
    assert plan.thinned == ()


def test_every_deletion_says_what_it_lost_against():
    plan = (keep.best(1, "loss") | keep.latest(1)).plan(series([3, 1, 2]))
    assert plan.reasons == {
        "1": (
            "not among the best 1 by loss: rank 3 with 3",
            "not among the latest 1: number 3",
            "a newer one is durable: 3",
        ),
        "2": ("best 1 by loss: rank 1 with 1",),
        "3": ("latest 1: number 1", "newest of its run: nothing newer is durable yet"),
    }


def test_a_newer_full_checkpoint_is_no_reason_to_delete_one_of_another_kind():
    kinds = ["weights", "weights", "full"]
    infos = [checkpoint(n, float(n), kind=kind) for n, kind in enumerate(kinds, 1)]
    plan = keep.best(1, "loss").plan(infos)
    assert plan.reasons["2"] == ("not among the best 1 by loss: rank 2 with 2",)


def test_freed_bytes_are_of_shards_that_nobody_needs_any_more():
    infos = [
        checkpoint(1, 1.0, shards={"frozen": 100, "m1": 10}),
        checkpoint(2, 3.0, shards={"frozen": 100, "m2": 20}),
        checkpoint(3, 2.0, run="other", shards={"m2": 20, "m3": 30}),
        checkpoint(4, 9.0, shards={"frozen": 100, "m4": 40}),
        checkpoint(5, 8.0, shards={"frozen": 100, "m5": 50}),
    ]
    plan = keep.best(1, "loss").plan(infos)
    assert ids(plan.deleted) == ["2", "4"]
    assert plan.freed_nbytes == 40


@pytest.mark.parametrize(("known", "freed"), [(True, 7), (False, 0)])
def test_freed_bytes_count_thinned_items_where_their_shards_are_known(known, freed):
    by_item = {"model": ("m", "both"), "optimizer": ("o", "both")} if known else {}
    info = checkpoint(1, 1.0, shards={"m": 5, "o": 7, "both": 9}, item_shards=by_item)
    plan = keep.best(1, "loss").items("model").plan([info], finished=True)
    assert ids(plan.thinned) == ["1"]
    assert plan.freed_nbytes == freed


def test_an_id_that_comes_twice_is_refused():
    with pytest.raises(ConfigError, match="twice"):
        keep.all().plan([checkpoint(1), checkpoint(1)])


@pytest.mark.parametrize("policy", [keep.newer_than(days=1), keep.unscored("loss", hours=1)])
def test_a_rule_on_ages_needs_the_time(policy):
    with pytest.raises(ConfigError, match="now="):
        (keep.latest(1) | policy).plan([])


@pytest.mark.parametrize(
    "policy",
    [
        keep.best(1),
        keep.best(1, "gap"),
        keep.unscored(None, 1),
        keep.pareto("loss", "gap"),
        keep.latest(1) | keep.best(1).items("model"),
        keep.latest(1).capped(5, metric="gap"),
    ],
)
def test_a_pure_plan_without_a_metric_or_its_direction_is_an_error(policy):
    with pytest.raises(ConfigError, match="metric"):
        policy.plan([], now=EPOCH)
