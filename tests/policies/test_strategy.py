"""`CheckpointStrategy`: the rules of Ray Train of 2021, applied after each save."""

from __future__ import annotations

import math

import pytest

from holdfast.strategy import CheckpointStrategy
from tests.policies.samples import checkpoint, ids, save_one_by_one, series

NAN = math.nan

CASES = [
    # losses in order, arguments, kept, best
    ([2, 4, 1, 3], (2, "loss", "min"), "1 3", "3"),
    ([1, 1, 1, 1], (2, "loss", "min"), "1 2", "1"),
    ([2, 4, 1, 3], (2, "loss"), "2 4", "2"),
    ([2, 4, 1, 3], (2,), "3 4", "4"),
    ([2, 4, 1, 3], (2, None, "min"), "1 2", "1"),
    ([2, 4, 1, 3], (None, "loss", "min"), "1 2 3 4", "3"),
    ([2, 4, 1, 3], (), "1 2 3 4", "4"),
    ([2, 4, 1, 3], (0,), "", None),
    ([NAN, 4, None, 3], (2, "loss", "min"), "2 4", "4"),
    ([NAN, None], (1, "loss", "min"), "2", None),
    ([3, NAN], (1, "loss", "min"), "1", "1"),
    ([0, 1], (1, "loss", "min"), "1", "1"),
]


@pytest.mark.parametrize(("losses", "arguments", "kept", "best"), CASES)
def test_strategy_keeps_what_ray_kept(losses, arguments, kept, best):
    policy = CheckpointStrategy(*arguments)
    left = save_one_by_one(policy, series(losses))
    assert " ".join(ids(left)) == kept
    found = policy.best(left)
    assert (None if found is None else found.id) == best


def test_a_newcomer_that_is_not_among_the_best_is_not_kept():
    plan = CheckpointStrategy(1, "loss", "min").plan(series([1, 2]))
    assert ids(plan.deleted) == ["2"]
    assert plan.reasons["2"] == ("not among the 1 kept by loss (min): rank 2 with 2",)


def test_best_is_restorable_and_intact():
    infos = [
        checkpoint(1, 3.0),
        checkpoint(2, 1.0, damaged=True),
        checkpoint(3, 0.5, kind="metrics"),
        checkpoint(4, 2.0, kind="weights"),
        checkpoint(5, 9.0, kind="partial"),
    ]
    found = CheckpointStrategy(None, "loss", "min").best(infos)
    assert found is not None
    assert found.id == "4"
    newest = CheckpointStrategy().best(reversed(infos))
    assert newest is not None
    assert newest.id == "4"
    broken = checkpoint(6, 9.0, damaged=True)
    assert CheckpointStrategy().best([*infos, broken]) == newest
