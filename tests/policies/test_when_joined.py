"""Save policies as wholes: joins, what a run completes, what is refused, how they read."""

from __future__ import annotations

import math
import signal
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast import keep, stop, when
from holdfast.errors import ConfigError
from tests.policies.samples import judged, last, moment

NAN = math.nan


def test_either_is_enough_and_the_reason_says_which():
    policy = when.improved("loss") | when.improved("accuracy")
    at = moment(
        metrics={"loss": 0.3, "accuracy": 0.9}, best={"loss": (0.2, 1.0), "accuracy": (0.1, 0.8)}
    )
    verdict = policy.decide(at)
    assert (verdict.save, verdict.reason) == (True, "improved: accuracy 0.9 (best so far 0.8)")
    assert verdict.code == "improved"


def test_reasons_of_all_that_said_yes_are_joined():
    policy = when.improved("loss") | when.every(steps=10)
    assert judged(policy, moment(9, metrics={"loss": 1.0})) == (
        True,
        "improved: loss 1 (the first); interval: 10 steps without a save yet",
    )
    assert judged(policy, moment(3, metrics={"loss": 1.0}, best={"loss": (0.5, 2.0)})) == (
        False,
        "improved: loss 1 is no better than 0.5; interval: 4 of 10 steps",
    )


def test_both_must_say_yes_and_the_reason_names_who_refused():
    policy = when.improved("loss") & when.every(steps=10)
    assert judged(policy, moment(9, metrics={"loss": 1.0})) == (
        True,
        "improved: loss 1 (the first) and interval: 10 steps without a save yet",
    )
    assert judged(policy, moment(3, metrics={"loss": 1.0})) == (False, "interval: 4 of 10 steps")


def test_not_turns_the_answer_and_keeps_the_numbers():
    verdict = (~when.every(steps=10)).decide(moment(3))
    assert (verdict.save, verdict.reason) == (True, "not (interval): 4 of 10 steps")
    assert verdict.code == "not (interval)"
    assert (~when.every(steps=10)).decide(moment(9)).save is False


WRONG = [
    (when.every, "does not say how often"),
    (lambda: when.every(steps=0), "when.never"),
    (lambda: when.every(steps=-5), "steps=-5"),
    (lambda: when.every(steps=True), "bool"),
    (lambda: when.every(steps=10.0), "float"),
    (lambda: when.every(epochs="2"), "str"),
    (lambda: when.every(seconds=0), "seconds=0"),
    (lambda: when.every(seconds=NAN), "nan"),
    (lambda: when.every(seconds="60"), "str"),
    (lambda: when.improved("loss", by="abc"), "'abc'"),
    (lambda: when.improved("loss", by="0.5"), "0.5%"),
    (lambda: when.improved("loss", by=-0.1), "negative"),
    (lambda: when.improved("loss", by=NAN), "finite"),
    (lambda: when.improved("loss", by=True), "bool"),
    (lambda: when.improved("loss", mode="lower"), "'lower'"),
    (lambda: when.improved(""), "metric's name"),
    (lambda: when.improved(3), "metric's name"),
    (lambda: when.changed("loss", "x%"), "'x%'"),
    (when.at, "names no step"),
    (lambda: when.at(5, -1), "step=-1"),
    (lambda: when.at(1.5), "float"),
    (lambda: when.preempted(("FOO",)), "'FOO'"),
    (lambda: when.preempted(("KILL",)), "cannot be caught"),
    (lambda: when.preempted("TERM"), "tuple"),
    (lambda: when.preempted(()), "no signal"),
    (lambda: when.preempted((15,)), "15"),
    (lambda: when.deadline(0), "minutes=0"),
    (lambda: when.budget(0), "overhead=0"),
    (lambda: when.budget(2), "2%"),
    (lambda: when.budget("two"), "'two'"),
    (lambda: when.budget(True), "bool"),
    (lambda: when.always() | 3, "int is no SavePolicy"),
    (lambda: 3 | when.always(), "int is no SavePolicy"),
    (lambda: None & when.always(), "NoneType is no SavePolicy"),
    (lambda: when.always() & keep.all(), "is no SavePolicy"),
    (lambda: when.always() | stop.diverged("loss"), "is no SavePolicy"),
    (lambda: when.always() or when.never(), "no truth value"),
]


@pytest.mark.parametrize(("make", "text"), WRONG)
def test_what_cannot_be_meant_is_refused_when_it_is_written(make, text):
    with pytest.raises(ConfigError) as caught:
        make()
    assert text in str(caught.value)
    assert caught.value.hint


BIND = [
    # policy, the run's metric and mode, what comes of it
    (when.improved(), ("val_loss", None), "when.improved('val_loss')"),
    (when.improved(), ("gap", "min"), "when.improved('gap', mode='min')"),
    (when.improved(), ("val_loss", "max"), "when.improved('val_loss', mode='max')"),
    (when.improved(mode="max"), ("val_loss", "min"), "when.improved('val_loss', mode='max')"),
    (when.improved("gap"), ("gap", "min"), "when.improved('gap', mode='min')"),
    (when.improved("acc"), ("gap", "min"), "when.improved('acc')"),
    (when.changed(None, 0.1), ("gap", None), "when.changed('gap', by=0.1)"),
    (
        ~(when.improved() & when.every(steps=5)) | when.at(3),
        ("loss", "min"),
        "~(when.improved('loss') & when.every(steps=5)) | when.at(3)",
    ),
]


@pytest.mark.parametrize(("policy", "run", "bound"), BIND)
def test_a_policy_takes_from_the_run_what_it_leaves_open(policy, run, bound):
    assert repr(policy.bind(*run)) == bound
    assert policy.bind(*run).bind(*run) == policy.bind(*run)


@pytest.mark.parametrize(
    ("policy", "run"),
    [
        (when.improved(), (None, None)),
        (when.improved(), ("gap", None)),
        (when.improved("gap"), ("loss", "min")),
        (when.changed(None, 1), (None, None)),
        (when.always() | when.improved("gap"), ("loss", "min")),
    ],
)
def test_binding_fails_where_a_metric_or_a_direction_is_still_missing(policy, run):
    with pytest.raises(ConfigError, match="metric"):
        policy.bind(*run)


@pytest.mark.parametrize("policy", [when.improved(), when.improved("gap"), when.changed(None, 1)])
def test_a_pure_call_without_a_metric_or_its_direction_is_an_error(policy):
    with pytest.raises(ConfigError, match="metric"):
        policy.decide(moment(metrics={"gap": 1.0}))


def test_what_a_run_has_to_provide_is_found_at_any_depth():
    policy = (
        (when.improved("a_loss") & ~when.preempted(("USR1", "SIGTERM")))
        | when.changed("b", 1)
        | when.preempted()
        | ~when.deadline(5)
    )
    assert policy.metrics() == {"a_loss", "b"}
    assert policy.signals() == ("USR1", "TERM")
    assert policy.uses("deadline")
    assert policy.uses("preempted")
    assert not policy.uses("interrupted")
    assert (policy | when.interrupted()).uses("interrupted")
    assert all(hasattr(signal, f"SIG{name}") for name in policy.signals())


_LEAVES = st.one_of(
    st.builds(
        lambda n, e, s: when.every(n, e, seconds=s),
        st.integers(1, 999),
        st.none() | st.integers(1, 9),
        st.none() | st.floats(0.001, 1e9),
    ),
    st.builds(
        lambda m, d, b: when.improved(m, mode=d, by=b),
        st.none() | st.sampled_from(["loss", "it's/loss", 'a"b_loss']),
        st.none() | st.sampled_from(["min", "max"]),
        st.floats(0, 1e6) | st.integers(0, 99999).map(lambda n: f"{n / 1000}%"),
    ),
    st.builds(when.changed, st.just("loss"), st.floats(0, 10)),
    st.lists(st.integers(0, 999), min_size=1, max_size=3).map(lambda steps: when.at(*steps)),
    st.sampled_from([("TERM",), ("USR1", "TERM")]).map(when.preempted),
    st.builds(when.deadline, st.floats(0.1, 1e6)),
    st.builds(when.budget, st.floats(0.001, 1)),
    st.sampled_from([when.always(), when.never(), when.interrupted()]),
)
_POLICIES = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda a, b: a | b, inner, inner),
        st.builds(lambda a, b: a & b, inner, inner),
        st.builds(lambda a: ~a, inner),
    ),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(_POLICIES)
def test_the_text_of_a_policy_is_the_expression_that_makes_it(policy):
    assert eval(str(policy), {"when": when}) == policy
    assert hash(policy) == hash(eval(repr(policy), {"when": when}))


_MOMENTS = st.builds(
    lambda step, value, best, saved, flag: moment(
        step,
        metrics={"loss": value},
        best={} if best is None else {"loss": (best, best + 1)},
        last_saved=None if saved is None else last(saved, metrics={"loss": float(saved)}),
        preempted=flag,
    ),
    st.integers(0, 500),
    st.floats(allow_nan=True),
    st.none() | st.floats(-5, 5),
    st.none() | st.integers(0, 500),
    st.booleans(),
)


@settings(max_examples=150, deadline=None)
@given(_POLICIES, _POLICIES, _MOMENTS)
def test_joined_policies_are_the_logic_of_their_answers(first, second, at):
    first, second = first.bind("loss", "min"), second.bind("loss", "min")
    one, other = first.decide(at), second.decide(at)
    assert (first | second).decide(at).save == (one.save or other.save)
    assert (first & second).decide(at).save == (one.save and other.save)
    assert (~first).decide(at).save == (not one.save)
    assert first.decide(at) == one
    assert all(verdict.reason and ": " in verdict.reason for verdict in (one, other))


def test_policies_bring_in_no_numpy():
    names = ("when", "keep", "stop", "strategy", "presets")
    imports = "; ".join(f"import holdfast.{name}" for name in names)
    heavy = "sorted({'numpy', 'sqlalchemy', 'torch'} & set(sys.modules))"
    code = f"import sys; {imports}; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
