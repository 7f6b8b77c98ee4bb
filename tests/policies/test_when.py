"""Save rules: for each rule the moments that fulfil it and the moments that do not."""

from __future__ import annotations

import math

import pytest

from holdfast import when
from tests.policies.samples import EPOCH, judged, last, moment

NAN, INF = math.nan, math.inf


EVERY = [
    ({"steps": 50}, moment(149, last_saved=last(100)), False, "interval: 49 of 50 steps"),
    ({"steps": 50}, moment(150, last_saved=last(100)), True, "interval: 50 steps since step 100"),
    ({"steps": 50}, moment(48), False, "interval: 49 of 50 steps"),
    ({"steps": 50}, moment(49), True, "interval: 50 steps without a save yet"),
    ({"steps": 1}, moment(0), True, "interval: 1 step without a save yet"),
    ({"steps": 50}, moment(90, last_saved=last(100)), False, "interval: -10 of 50 steps"),
    ({"epochs": 2}, moment(epoch=1), True, "interval: 2 epochs without a save yet"),
    ({"epochs": 2}, moment(epoch=0), False, "interval: 1 of 2 epochs"),
    ({"epochs": 2}, moment(epoch=5, last_saved=last(epoch=4)), False, "interval: 1 of 2 epochs"),
    (
        {"epochs": 2},
        moment(epoch=6, last_saved=last(epoch=4)),
        True,
        "interval: 2 epochs since epoch 4",
    ),
    ({"epochs": 1}, moment(), False, "interval: no epoch was passed"),
    ({"seconds": 60}, moment(), True, "interval: no save yet, one every 60 s"),
    ({"seconds": 60}, moment(started_at=EPOCH - 59), False, "interval: 59 s of 60 s"),
    ({"seconds": 60}, moment(started_at=EPOCH - 60), True, "interval: 60 s since the start"),
    ({"seconds": 60}, moment(last_saved=last(ago=59.5)), False, "interval: 59.5 s of 60 s"),
    ({"seconds": 60}, moment(last_saved=last(ago=60)), True, "interval: 60 s since the last save"),
    (
        {"seconds": 60},
        moment(last_saved=last(ago=30), started_at=EPOCH - 600),
        False,
        "interval: 30 s of 60 s",
    ),
    (
        {"steps": 50, "epochs": 3, "seconds": 60},
        moment(160, epoch=1, last_saved=last(100, ago=10, epoch=1)),
        True,
        "interval: 60 steps since step 100",
    ),
    (
        {"steps": 500, "epochs": 3, "seconds": 60},
        moment(160, epoch=1, last_saved=last(100, ago=10, epoch=1)),
        False,
        "interval: 60 of 500 steps, 0 of 3 epochs, 10 s of 60 s",
    ),
]


@pytest.mark.parametrize(("arguments", "at", "save", "reason"), EVERY)
def test_every_is_due_when_any_given_distance_is_reached(arguments, at, save, reason):
    assert judged(when.every(**arguments), at) == (save, reason)


IMPROVED = [
    # metric arguments, value, best, save, reason after the code
    ({}, 0.3, None, True, "loss 0.3 (the first)"),
    ({}, 0.29, (0.3, 0.9), True, "loss 0.29 (best so far 0.3)"),
    ({}, 0.3, (0.3, 0.9), False, "loss 0.3 is no better than 0.3"),
    ({}, 0.31, (0.3, 0.9), False, "loss 0.31 is no better than 0.3"),
    ({}, NAN, None, False, "loss is nan"),
    ({}, -INF, (0.3, 0.9), False, "loss is -inf"),
    ({}, INF, None, False, "loss is inf"),
    ({}, None, None, False, "loss was not reported at this step"),
    ({}, 5.0, (NAN, NAN), True, "loss 5 (the first)"),
    ({}, 5.0, (INF, -INF), True, "loss 5 (the first)"),
    ({"mode": "max"}, 0.95, (0.3, 0.9), True, "loss 0.95 (best so far 0.9)"),
    ({"mode": "max"}, 0.2, (0.3, 0.9), False, "loss 0.2 is no better than 0.9"),
    ({"by": 0.25}, 0.5, (0.75, 0.9), False, "loss 0.5 is no better than 0.75 by 0.25"),
    ({"by": 0.25}, 0.4, (0.75, 0.9), True, "loss 0.4 (best so far 0.75)"),
    ({"by": "1%"}, 1.985, (2.0, 9.0), False, "loss 1.985 is no better than 2 by 1%"),
    ({"by": "1%"}, 1.975, (2.0, 9.0), True, "loss 1.975 (best so far 2)"),
    # Relative to the absolute value: below zero too, better is lower.
    ({"by": "10%"}, -1.05, (-1.0, 2.0), False, "loss -1.05 is no better than -1 by 10%"),
    ({"by": "10%"}, -1.15, (-1.0, 2.0), True, "loss -1.15 (best so far -1)"),
    ({}, 0.30001, (0.30002, 1.0), True, "loss 0.30001 (best so far 0.30002)"),
]


@pytest.mark.parametrize(("arguments", "value", "best", "save", "numbers"), IMPROVED)
def test_improved_is_strict_and_finite_and_against_the_best_so_far(
    arguments, value, best, save, numbers
):
    at = moment(
        metrics={} if value is None else {"loss": value},
        best={} if best is None else {"loss": best},
    )
    assert judged(when.improved("loss", **arguments), at) == (save, f"improved: {numbers}")


def test_a_score_of_an_earlier_step_never_triggers_a_save():
    earlier = last(100, metrics={"val_loss": 0.1})
    at = moment(metrics={"loss": 1.0}, last_saved=earlier, best={"val_loss": (0.5, 0.5)})
    assert not when.improved("val_loss").decide(at)


CHANGED = [
    (0.1, 0.65, 0.5, True),
    (0.1, 0.55, 0.5, False),
    (0.25, 0.75, 0.5, True),  # at least, not more than
    (0.25, 0.25, 0.5, True),  # in either direction
    ("50%", 0.75, 0.5, True),
    ("50%", 0.74, 0.5, False),
    (0, 0.5, 0.5, False),
    (0, 0.5000001, 0.5, True),
    (0.1, NAN, 0.5, False),
    (0.1, INF, 0.5, False),
    (0.1, None, 0.5, False),
    (0.1, 0.5, None, True),
    (0.1, 0.5, NAN, True),
    (0.1, NAN, None, False),
]


@pytest.mark.parametrize(("by", "value", "before", "save"), CHANGED)
def test_changed_compares_with_the_value_at_the_last_save(by, value, before, save):
    at = moment(
        metrics={} if value is None else {"loss": value},
        last_saved=last(metrics={} if before is None else {"loss": before}),
    )
    verdict = when.changed("loss", by).decide(at)
    assert (verdict.save, verdict.code) == (save, "changed")


def test_changed_takes_the_first_number_of_a_run_as_a_change():
    assert when.changed("loss", 0.1).decide(moment(metrics={"loss": 1.0}))


AT = [
    ((100, 200), 99, None, False, "at: the next is step 100"),
    ((100, 200), 100, None, True, "at: step 100 is reached (step 100)"),
    ((100, 200), 103, 50, True, "at: step 100 is reached (step 103)"),
    ((100, 200), 150, 100, False, "at: the next is step 200"),
    ((100, 200), 150, 103, False, "at: the next is step 200"),
    ((200, 100), 250, 50, True, "at: step 200 is reached (step 250)"),
    ((100, 200), 300, 250, False, "at: the last was step 200"),
    ((0,), 0, None, True, "at: step 0 is reached (step 0)"),
]


@pytest.mark.parametrize(("steps", "step", "saved", "save", "reason"), AT)
def test_at_is_due_at_the_first_moment_at_or_past_a_step(steps, step, saved, save, reason):
    at = moment(step, last_saved=None if saved is None else last(saved))
    assert judged(when.at(*steps), at) == (save, reason)


@pytest.mark.parametrize("flag", ["preempted", "interrupted"])
def test_an_end_from_outside_is_due_when_the_moment_says_so(flag):
    policy = getattr(when, flag)()
    assert not policy.decide(moment())
    verdict = policy.decide(moment(**{flag: True}))
    assert (verdict.save, verdict.code) == (True, flag)


DEADLINE = [
    # minutes, seconds gone, stall, write, seconds since the last save, save
    (60, 3600 - 31, None, None, None, False),
    (60, 3600 - 30, None, None, None, True),
    (60, 3600 - 171, 10.0, 60.0, None, False),
    (60, 3600 - 170, 10.0, 60.0, None, True),
    (60, 3600 - 20, None, None, 11, True),  # the last save was before the moment it is due
    (60, 3600 - 20, None, None, 10, False),  # it was for the deadline: one is enough
    (60, 4000, None, None, None, True),  # late is better than not at all
    (0.5, 14, 10.0, 60.0, None, False),  # never more than half of the span
    (0.5, 15, 10.0, 60.0, None, True),
]


@pytest.mark.parametrize(("minutes", "gone", "stall", "write", "ago", "save"), DEADLINE)
def test_deadline_is_due_once_and_early_enough(minutes, gone, stall, write, ago, save):
    at = moment(
        started_at=EPOCH - gone,
        stall_s=stall,
        write_s=write,
        last_saved=None if ago is None else last(ago=ago),
    )
    verdict = when.deadline(minutes).decide(at)
    assert (verdict.save, verdict.code) == (save, "deadline")


def test_deadline_without_a_start_is_not_due_and_says_so():
    assert judged(when.deadline(1), moment()) == (
        False,
        "deadline: nobody said when the run started",
    )


BUDGET = [
    # stall, write, seconds since the last save, save (2 % is allowed)
    (0.5, None, 24, False),
    (0.5, None, 25, True),
    (0.5, 40.0, 39, False),
    (0.5, 40.0, 40, True),
    (None, 40.0, 1, True),
    (0.5, None, None, True),
    (0.0, None, 0, True),
]


@pytest.mark.parametrize("overhead", [0.02, "2%"])
@pytest.mark.parametrize(("stall", "write", "ago", "save"), BUDGET)
def test_budget_saves_as_often_as_the_share_allows(overhead, stall, write, ago, save):
    at = moment(stall_s=stall, write_s=write, last_saved=None if ago is None else last(ago=ago))
    verdict = when.budget(overhead).decide(at)
    assert (verdict.save, verdict.code) == (save, "budget")


def test_always_saves_and_never_does_not():
    assert judged(when.always(), moment(7)) == (True, "always: step 7")
    assert when.never().decide(moment(7)).save is False
    assert when.never().decide(moment(7)).code == "never"


def test_every_takes_its_distances_in_order_too():
    assert when.every(5, 2, 60) == when.every(steps=5, epochs=2, seconds=60)
