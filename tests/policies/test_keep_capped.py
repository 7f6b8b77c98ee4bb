"""The cap: distinct bytes, who leaves first, who never leaves."""

from __future__ import annotations

import math

import pytest

from holdfast import keep
from holdfast.errors import ConfigError
from holdfast.model import CheckpointInfo
from holdfast.policy.thresholds import Size
from tests.policies.samples import checkpoint, ids

NAN = math.nan


def sized(losses: list[float | None], nbytes: int = 100, **last: object) -> list[CheckpointInfo]:
    """One checkpoint per loss, each with a shard of its own; `last` is the last one's fields."""
    infos = [
        checkpoint(number, loss, shards={f"s{number}": nbytes})
        for number, loss in enumerate(losses, start=1)
    ]
    tail = infos[-1]
    return [
        *infos[:-1],
        checkpoint(len(infos), tail.metrics.get("loss"), shards=tail.shards, **last),
    ]


CAPS = [
    # losses, cap, kept when the run is finished, kept while it goes on
    ([3, 1, 2, 4], 400, "1 2 3 4", "1 2 3 4"),
    ([3, 1, 2, 4], 399, "1 2 3", "2 3 4"),
    ([3, 1, 2, 4], 200, "2 3", "2 4"),
    ([3, 1, 2, 4], 100, "2", "4"),
    ([3, 1, 2, 4], 1, "", "4"),
    ([NAN, 1, None, 4], 300, "2 3 4", "2 3 4"),
    ([NAN, 1, None, 4], 200, "2 4", "2 4"),
    ([1, 1, 1, 1], 300, "1 3 4", "1 3 4"),  # the oldest of equals, but the best (first) stays
    ([1, 1, 1, 1], 100, "1", "4"),
]


@pytest.mark.parametrize(("losses", "cap", "finished", "running"), CAPS)
def test_worst_and_oldest_leave_first_and_the_best_last(losses, cap, finished, running):
    policy = keep.best(10, "loss").capped(cap)
    infos = sized(losses)
    assert " ".join(ids(policy.plan(infos, finished=True).kept)) == finished
    assert " ".join(ids(policy.plan(infos).kept)) == running


def test_without_a_metric_the_oldest_leave_first():
    policy = keep.latest(10).capped(250)
    assert ids(policy.plan(sized([1, 2, 3, 4]), finished=True).kept) == ["3", "4"]
    assert ids(policy.bind("loss", None).plan(sized([1, 2, 3, 4]), finished=True).kept) == [
        "1",
        "2",
    ]


def test_the_worst_goes_by_what_is_said_then_by_the_inner_policy_then_by_the_run():
    infos = [
        checkpoint(n, metrics={"loss": loss, "acc": acc}, shards={f"s{n}": 1})
        for n, (loss, acc) in enumerate([(1, 2), (2, 3), (3, 1)], start=1)
    ]
    inner = keep.every(steps=1) | keep.best(1, "acc")
    for policy, best in [
        (inner.capped(1), "2"),
        (inner.capped(1, metric="loss"), "1"),
        (inner.capped(1, metric="loss", mode="max"), "3"),
        (keep.all().capped(1), "3"),
    ]:
        assert ids(policy.plan(infos, finished=True).kept) == [best]
    for policy, best in [(inner.capped(1), "2"), (keep.all().capped(1), "1")]:
        assert ids(policy.bind("loss", "min").plan(infos, finished=True).kept) == [best]


@pytest.mark.parametrize(
    "fields", [{"pinned": True}, {"awaiting": ("val_loss",)}, {"damaged": True}]
)
def test_what_is_protected_counts_and_stays(fields):
    infos = sized([1, 2, 9], **fields)
    plan = keep.best(10, "loss").capped(200).plan(infos)
    assert "3" in ids(plan.kept)
    assert len(plan.kept) == 2


def test_protected_ones_above_the_cap_say_so():
    infos = [checkpoint(n, float(n), pinned=n < 3, shards={f"s{n}": 100}) for n in (1, 2, 3)]
    plan = keep.best(10, "loss").capped("150B").plan(infos, finished=True)
    assert ids(plan.kept) == ["1", "2"]
    note = "the cap of 150B is exceeded by what is protected alone: 200B"
    assert all(note in plan.reasons[name] for name in ("1", "2"))
    fitting = keep.best(10, "loss").capped("200B").plan(infos, finished=True)
    assert ids(fitting.kept) == ["1", "2"]
    assert not any("exceeded" in text for texts in fitting.reasons.values() for text in texts)


def test_a_victim_is_told_what_it_lost_against():
    plan = keep.best(10, "loss").capped("0.25kB").plan(sized([1, 3, 2]), finished=True)
    assert plan.reasons["2"] == (
        "over the cap of 0.25kB: 300B with it, and its loss of 3 is the worst of the rest",
    )


def test_a_shared_shard_counts_once_and_its_user_leaves_only_when_that_frees_something():
    infos = [
        checkpoint(1, 9.0, shards={"frozen": 500}),
        checkpoint(2, 2.0, shards={"frozen": 500, "s2": 100}),
        checkpoint(3, 1.0, shards={"frozen": 500, "s3": 100}),
        checkpoint(4, 3.0, shards={"frozen": 500, "s4": 100}),
    ]
    policy = keep.best(10, "loss")
    assert ids(policy.capped(800).plan(infos).kept) == ["1", "2", "3", "4"]
    # 1 is the worst, but the newest needs all that it holds: it leaves nothing behind.
    assert ids(policy.capped(799).plan(infos).kept) == ["1", "3", "4"]


def test_of_what_is_thinned_only_the_items_that_stay_count():
    by_item = {"model": ("m",), "optimizer": ("o",)}
    infos = [
        checkpoint(
            n,
            float(n),
            shards={f"m{n}": 10, f"o{n}": 90},
            item_shards={item: (f"{names[0]}{n}",) for item, names in by_item.items()},
        )
        for n in (1, 2, 3)
    ]
    policy = keep.best(10, "loss").items("model").capped(120)
    plan = policy.plan(infos)
    assert ids(plan.thinned) == ["1", "2"]
    assert ids(plan.kept) == ["1", "2", "3"]
    assert ids(keep.best(10, "loss").capped(120).plan(infos).kept) == ["3"]


def test_a_cap_on_one_part_leaves_the_other_part_alone():
    policy = keep.best(10, "loss").capped(100) | keep.latest(2)
    assert ids(policy.plan(sized([1, 2, 3, 4])).kept) == ["3", "4"]
    assert ids(policy.plan(sized([1, 2, 3, 4]), finished=True).kept) == ["1", "3", "4"]


def test_runs_are_capped_one_by_one():
    infos = [checkpoint(n, 1.0, run=f"r{n % 2}", shards={f"s{n}": 60}) for n in range(4)]
    assert len(keep.all().capped(120).plan(infos, finished=True).kept) == 4


SIZES = [
    (7, 7),
    ("1B", 1),
    ("2kB", 2_000),
    ("1.5 MB", 1_500_000),
    ("2GB", 2_000_000_000),
    ("3TB", 3_000_000_000_000),
    ("1KiB", 1024),
    ("1MiB", 1024**2),
    ("2GiB", 2 * 1024**3),
    ("1TiB", 1024**4),
    ("2gb", 2_000_000_000),
]


@pytest.mark.parametrize(("given", "nbytes"), SIZES)
def test_a_size_is_bytes_or_text_with_a_unit(given, nbytes):
    assert Size.of(given, asker="cap").nbytes == nbytes


@pytest.mark.parametrize("given", ["2", "GB", "2XB", "-1GB", "0B", "", 0, -5, 2e9, True, None])
def test_what_is_no_size_is_refused(given):
    with pytest.raises(ConfigError) as caught:
        keep.all().capped(given)
    assert caught.value.hint
