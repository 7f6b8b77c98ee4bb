"""Stop rules: for each rule the histories that end a run and those that do not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast import keep, stop
from holdfast.errors import ConfigError

NAN, INF = math.nan, math.inf

PATIENCE = [
    # arguments, losses, stop, reason
    ({"checks": 3}, [], False, "patience: 0 of 3 checks without a loss better than a number"),
    ({"checks": 3}, [3, 2, 2, 2], False, "patience: 2 of 3 checks without a loss better than 2"),
    ({"checks": 3}, [3, 2, 2, 2, 2], True, "patience: 3 checks without a loss better than 2"),
    ({"checks": 3}, [3, 2, 2, 2, 1], False, "patience: 0 of 3 checks without a loss better than 1"),
    ({"checks": 2}, [3, 3, 3, 3], True, "patience: 3 checks without a loss better than 3"),
    ({"checks": 1}, [3, 3], True, "patience: 1 check without a loss better than 3"),
    ({"checks": 2}, [NAN, NAN], True, "patience: 2 checks without a loss better than a number"),
    ({"checks": 2}, [1, NAN, -INF], True, "patience: 2 checks without a loss better than 1"),
    ({"checks": 2}, [NAN, 1, 2], False, "patience: 1 of 2 checks without a loss better than 1"),
    (
        {"checks": 2, "mode": "max"},
        [1, 2, 3, 2, 3],
        True,
        "patience: 2 checks without a loss better than 3",
    ),
    (
        {"checks": 2, "by": 0.5},
        [2, 1.75, 1.5],
        True,
        "patience: 2 checks without a loss better than 2",
    ),
    (
        {"checks": 3, "by": 0.5},  # small steps add up: 1.25 beats the last improvement, 2
        [2, 1.75, 1.5, 1.25],
        False,
        "patience: 0 of 3 checks without a loss better than 1.25",
    ),
    (
        {"checks": 2, "by": "10%"},
        [100, 91, 95],
        True,
        "patience: 2 checks without a loss better than 100",
    ),
]


@pytest.mark.parametrize(("arguments", "losses", "stops", "reason"), PATIENCE)
def test_patience_counts_reports_without_a_strict_improvement(arguments, losses, stops, reason):
    verdict = stop.patience("loss", **arguments).decide(losses)
    assert (verdict.stop, verdict.reason) == (stops, reason)


def test_a_step_without_the_metric_is_no_check():
    policy = stop.patience("val_loss", checks=2)
    history = [{"val_loss": 1.0}, {"loss": 3.0}, {"loss": 4.0}, {"val_loss": 2.0}, {"loss": 5.0}]
    assert not policy.decide(history).stop
    assert policy.decide([*history, {"val_loss": 1.5}]).stop
    assert policy.decide([*history, {"val_loss": 1.5}, {"loss": 1.0}]).stop


LIMITS = [
    (stop.below("loss", 0.5), [0.6, 0.4], True, "below: loss 0.4 is below 0.5"),
    (stop.below("loss", 0.5), [0.5], False, "below: loss 0.5 is not below 0.5"),
    (stop.below("loss", 0.5), [0.4, 0.6], False, "below: loss 0.6 is not below 0.5"),
    (stop.below("loss", 0.5), [-INF], False, "below: loss -inf is not below 0.5"),
    (stop.below("loss", 0.5), [NAN], False, "below: loss nan is not below 0.5"),
    (stop.below("loss", 0.5), [], False, "below: loss was not reported yet"),
    (stop.above("acc", 0.9), [0.8, 0.95], True, "above: acc 0.95 is above 0.9"),
    (stop.above("acc", 0.9), [0.9], False, "above: acc 0.9 is not above 0.9"),
    (stop.above("acc", 0.9), [INF], False, "above: acc inf is not above 0.9"),
]


@pytest.mark.parametrize(("policy", "values", "stops", "reason"), LIMITS)
def test_below_and_above_are_strict_and_look_at_the_newest_finite_report(
    policy, values, stops, reason
):
    verdict = policy.decide(values)
    assert (verdict.stop, verdict.reason) == (stops, reason)


FALLING = [2.3 / (1 + step) for step in range(30)]
DIVERGED = [
    ("nan", "min", [1.0, NAN], True),
    ("infinite in the good direction too", "min", [1.0, -INF], True),
    ("recovered from a nan", "min", [1.0, NAN, 0.9], False),
    ("nothing reported", "min", [], False),
    ("falling", "min", FALLING, False),
    ("a spike back to where it began", "min", [*FALLING, 2.3], False),
    ("a blow-up", "min", [*FALLING, 30.0], True),
    ("recovered from a blow-up", "min", [*FALLING, 30.0, 0.07], False),
    ("a slow blow-up", "min", [*FALLING, *(0.08 * 1.5**n for n in range(16))], True),
    ("a high start", "min", [1e9, *FALLING], False),
    ("noise on a plateau", "min", [0.693 + 0.001 * (-1) ** n for n in range(20)] + [0.75], False),
    ("a blow-up from a plateau", "min", [0.693] * 20 + [8.0], True),
    ("too early to tell", "min", [1.0, 50.0], False),
    ("worse than that before a later best", "min", [1.0] * 10 + [5.0, 0.5, 6.0], False),
    ("all zero, then not", "min", [0.0] * 20 + [1.0], False),
    ("below zero", "min", [-5.0 - n for n in range(20)] + [1000.0], True),
    ("a reward that collapses", "max", [-200.0 + 35 * n for n in range(20)] + [-200.0], False),
    ("a reward that blows up", "max", [-200.0 + 35 * n for n in range(20)] + [-9e4], True),
    ("a reward that soars", "max", [1.0] * 20 + [1e6], False),
]


@pytest.mark.parametrize(
    ("mode", "values", "stops"), [row[1:] for row in DIVERGED], ids=[row[0] for row in DIVERGED]
)
def test_diverged_tells_a_blow_up_from_noise(mode, values, stops):
    verdict = stop.diverged("x", mode=mode).decide(values)
    assert (verdict.stop, verdict.code) == (stops, "diverged")


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_diverged_does_not_depend_on_the_unit(factor):
    for _, mode, values, stops in DIVERGED:
        scaled = [factor * value for value in values]
        assert stop.diverged("x", mode=mode).decide(scaled).stop == stops


def test_any_of_joined_rules_ends_the_run_and_the_reasons_of_those_are_given():
    policy = stop.patience("loss", checks=2) | stop.above("acc", 0.9) | stop.diverged("loss")
    verdict = policy.decide({"loss": [1.0, 2.0, NAN], "acc": [0.5]})
    assert verdict.stop
    assert verdict.reason == (
        "patience: 2 checks without a loss better than 1; diverged: loss is nan"
    )
    calm = policy.decide({"loss": [(10, 1.0), (20, 0.5)], "acc": [0.5]})
    assert not calm.stop
    assert calm.reason.count("; ") == 2


HISTORIES = [
    [3.0, 2.0, 2.5, 2.5],
    [(1, 3.0), (2, 2.0), (3, 2.5), (9, 2.5)],
    {"loss": [3.0, 2.0, 2.5, 2.5], "other": [1.0]},
    {"other": [], "loss": [(1, 3.0), (2, 2.0), (2, 2.5), (1, 2.5)]},
    [{"loss": 3.0}, {"loss": 2.0, "other": 9.0}, {"loss": 2.5}, {"other": 1.0}, {"loss": 2.5}],
]


@pytest.mark.parametrize("history", HISTORIES)
def test_a_history_may_be_numbers_pairs_series_or_steps(history):
    expected = "patience: 2 checks without a loss better than 2"
    assert stop.patience("loss", checks=2).decide(history).reason == expected


@pytest.mark.parametrize(
    ("policy", "history", "text"),
    [
        (stop.below("a", 1) | stop.below("b", 1), [1.0], "mapping"),
        (stop.below("a", 1), ["0.5"], "'0.5'"),
        (stop.below("a", 1), {"a": [(1, 2, 3)]}, "(1, 2, 3)"),
        (stop.below("a", 1), [True], "True"),
        (stop.patience(checks=1), [1.0], "metric"),
        (stop.patience("gap", checks=1), [], "metric"),
        (stop.diverged(), [], "metric"),
        (stop.above(None, 1), [], "metric"),
    ],
)
def test_a_history_that_cannot_be_judged_is_refused(policy, history, text):
    with pytest.raises(ConfigError) as caught:
        policy.decide(history)
    assert text in str(caught.value)
    assert caught.value.hint


VALUES = st.sampled_from([0.0, 1.0, 2.0, 3.0, 1e9, NAN, INF])
RULES = st.one_of(
    st.builds(
        lambda n, by: stop.patience("loss", checks=n, by=by),
        st.integers(1, 3),
        st.sampled_from([0, 0.5, "60%"]),
    ),
    st.builds(lambda v: stop.below("loss", v), st.floats(0, 3)),
    st.builds(lambda v: stop.above("acc", v), st.floats(0, 3)),
    st.sampled_from(
        [stop.diverged("loss"), stop.diverged("acc"), stop.diverged("gap", mode="max")]
    ),
)
POLICIES = st.recursive(
    RULES, lambda inner: st.builds(lambda a, b: a | b, inner, inner), max_leaves=4
)
STEPS = st.lists(st.dictionaries(st.sampled_from(["loss", "acc", "gap"]), VALUES), max_size=16)


@settings(max_examples=200, deadline=None)
@given(POLICIES, STEPS)
def test_deciding_is_the_fold_of_advancing(policy, steps):
    state = policy.start()
    for count, metrics in enumerate(steps, start=1):
        before = repr(state)
        after, verdict = policy.advance(state, metrics)
        assert repr(state) == before
        assert verdict == policy.decide(steps[:count])
        assert policy.fold(steps[:count]) == (after, verdict) or "nan" in repr(after)
        state = after
    names = ("loss", "acc", "gap")
    series = {name: [step[name] for step in steps if name in step] for name in names}
    assert policy.decide(series) == policy.decide(steps)


@settings(max_examples=100, deadline=None)
@given(POLICIES)
def test_the_text_of_a_policy_is_the_expression_that_makes_it(policy):
    assert eval(str(policy), {"stop": stop}) == policy


BIND = [
    (stop.patience(checks=2), ("gap", "max"), "stop.patience('gap', checks=2, mode='max')"),
    (stop.patience(checks=2, by="1%"), ("loss", None), "stop.patience('loss', checks=2, by='1%')"),
    (
        stop.below(None, 2) | stop.diverged(),
        ("loss", "min"),
        "stop.below('loss', 2) | stop.diverged('loss')",
    ),
]


@pytest.mark.parametrize(("policy", "run", "bound"), BIND)
def test_a_policy_takes_from_the_run_what_it_leaves_open(policy, run, bound):
    assert repr(policy.bind(*run)) == bound
    assert policy.bind(*run).metrics() == {run[0]}


def test_a_state_of_another_policy_is_refused():
    with pytest.raises(ConfigError, match="state"):
        stop.diverged("loss").advance(stop.below("loss", 1).start(), {"loss": 1.0})


WRONG = [
    (lambda: stop.patience("loss", checks=0), "checks=0"),
    (lambda: stop.patience("loss", checks=True), "bool"),
    (lambda: stop.patience("loss", checks=2, by="abc"), "'abc'"),
    (lambda: stop.patience("loss", checks=2, mode="up"), "'up'"),
    (lambda: stop.below("loss", NAN), "finite"),
    (lambda: stop.above("loss", "1"), "str"),
    (lambda: stop.above(3, 1), "metric's name"),
    (lambda: stop.diverged("loss", mode="up"), "'up'"),
    (lambda: stop.diverged("loss") | 3, "int is no StopPolicy"),
    (lambda: 3 | stop.diverged("loss"), "int is no StopPolicy"),
    (lambda: stop.diverged("loss") | keep.all(), "is no StopPolicy"),
    (lambda: stop.diverged("loss") or stop.diverged("acc"), "no truth value"),
]


@pytest.mark.parametrize(("make", "text"), WRONG)
def test_what_cannot_be_meant_is_refused_when_it_is_written(make, text):
    with pytest.raises(ConfigError) as caught:
        make()
    assert text in str(caught.value)
    assert caught.value.hint


def test_numbers_of_numpy_are_reports_and_limits_like_any_other():
    history = [np.float32(0.5), np.int64(1), 0.25]
    assert stop.below("loss", np.float32(0.3)).decide(history).stop
