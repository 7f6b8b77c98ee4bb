"""Policies come back from their text, and nothing else does."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast import CheckpointStrategy, keep, preset, when
from holdfast.errors import ConfigError
from holdfast.lifecycle.expression import MAX_LENGTH, parse_keep, parse_save
from holdfast.policy.retention import KeepPolicy
from tests.lifecycle.stores import outcome

COUNT = st.integers(1, 10**6)
AMOUNT = st.floats(1e-6, 1e9)
NAME = st.one_of(
    st.sampled_from(["loss", "val/acc", "it's", 'say "x"', "größe", "a\\b", "line\nbreak"]),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=8),
)
MODE = st.sampled_from(["min", "max"])
METRIC = st.one_of(st.none(), NAME)
BY = st.one_of(
    st.floats(0, 100), st.integers(0, 9), st.integers(1, 99).map(lambda number: f"{number / 10}%")
)

KEEP_LEAVES = st.one_of(
    st.builds(keep.best, COUNT, METRIC, mode=MODE, ties=st.sampled_from(["incumbent", "newest"])),
    st.builds(keep.latest, COUNT),
    st.builds(keep.every, steps=COUNT, seconds=st.one_of(st.none(), AMOUNT)),
    st.builds(keep.newer_than, days=AMOUNT, hours=st.one_of(st.just(0), AMOUNT)),
    st.lists(NAME, max_size=3).map(lambda names: keep.tagged(*names)),
    st.builds(keep.unscored, NAME, AMOUNT),
    st.lists(NAME, min_size=1, max_size=3, unique=True).flatmap(
        lambda names: st.dictionaries(st.sampled_from(names), MODE).map(
            lambda modes: keep.pareto(*names, modes=modes)
        )
    ),
    st.builds(keep.all),
)
KEEP = st.recursive(
    KEEP_LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda a, b: a | b, inner, inner),
        st.builds(lambda a, names: a.items(*names), inner, st.lists(NAME, min_size=1, max_size=2)),
        st.builds(
            lambda a, size: a.capped(size),
            inner,
            st.one_of(COUNT, st.sampled_from(["2GB", "1.5 MiB"])),
        ),
    ),
    max_leaves=5,
)
SAVE_LEAVES = st.one_of(
    st.builds(when.every, steps=COUNT, epochs=st.one_of(st.none(), COUNT)),
    st.builds(lambda seconds: when.every(seconds=seconds), AMOUNT),
    st.builds(when.improved, METRIC, mode=st.one_of(st.none(), MODE), by=BY),
    st.builds(when.changed, NAME, BY),
    st.lists(st.integers(0, 10**6), min_size=1, max_size=4).map(lambda steps: when.at(*steps)),
    st.builds(when.preempted, st.sampled_from([("TERM",), ("USR1", "TERM")])),
    st.builds(when.deadline, AMOUNT),
    st.builds(when.budget, st.one_of(st.floats(0.001, 1), st.just("2%"))),
    st.sampled_from([when.interrupted(), when.always(), when.never()]),
)
SAVE = st.recursive(
    SAVE_LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda a, b: a | b, inner, inner),
        st.builds(lambda a, b: a & b, inner, inner),
        st.builds(lambda a: ~a, inner),
    ),
    max_leaves=6,
)
SETTINGS = settings(max_examples=150, deadline=timedelta(seconds=5))


@SETTINGS
@given(KEEP)
def test_a_keep_policy_comes_back_from_its_text(policy):
    if len(str(policy)) <= MAX_LENGTH:
        assert parse_keep(str(policy)) == policy


@SETTINGS
@given(SAVE)
def test_a_save_policy_comes_back_from_its_text(policy):
    if len(str(policy)) <= MAX_LENGTH:
        assert parse_save(str(policy)) == policy


@pytest.mark.parametrize(
    "policy",
    [
        CheckpointStrategy(3),
        CheckpointStrategy(None, "loss", "min"),
        keep.none(),
        preset("balanced", metric="loss")[1],
        keep.best(10, "val_loss").items("model") | keep.latest(2),
        (keep.best(2, "loss") | keep.every(steps=10)).capped("2GB", metric="loss", mode="min"),
    ],
    ids=str,
)
def test_a_known_policy_comes_back_from_its_text(policy):
    assert parse_keep(str(policy)) == policy


def test_the_module_can_be_left_out():
    assert parse_keep("best(5, 'loss') | latest(2)") == keep.best(5, "loss") | keep.latest(2)
    assert parse_save("every(steps=5) & ~never()") == when.every(steps=5) & ~when.never()


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("keep.best(3) | os.system('x')", 16),
        ("keep.best(__import__('os').getpid())", 11),
        ("keep.best(3).__class__", 1),
        ("keep.best(3).capped.__self__()", 1),
        ("keep.worst(3)", 1),
        ("keep.latest(1) + keep.latest(2)", 1),
        ("keep.latest(1) & keep.latest(2)", 1),
        ("keep.latest(n=1, m=2)", 1),
        ("keep.latest(0)", 1),
        ("keep.latest(1) | keep.latest(-1)", 18),
        ("keep.latest(1", 12),
        ("keep.tagged(*['a'])", 13),
        ("keep.pareto('loss', modes={**{}})", 27),
        ("'größe' | keep.all()", 1),
        ("keep.tagged('größe') | nothing()", 24),
        ("lambda: keep.all()", 1),
        ("when.always()", 1),
        ("3", 1),
        ("", 1),
    ],
)
def test_what_is_no_policy_is_refused_with_its_place(text, position):
    with pytest.raises(ConfigError) as refused:
        parse_keep(text)
    assert f"at character {position}:" in refused.value.message
    assert refused.value.hint


def test_the_place_is_pointed_at():
    with pytest.raises(ConfigError) as refused:
        parse_keep("keep.latest(1) | keep.newest(2)")
    line, pointer = refused.value.message.splitlines()[1:]
    assert line[pointer.index("^") :].startswith("keep.newest")


@pytest.mark.parametrize(
    "text", ["~" * 100 + "when.never()", "(" * 500 + "when.never()", "when.never()|" * 2000]
)
def test_a_monstrous_text_is_refused_or_read_but_never_breaks(text):
    found = outcome(lambda: parse_save(text))
    assert isinstance(found, ConfigError) or str(found).endswith("when.never()")


@SETTINGS
@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text):
    assert isinstance(outcome(lambda: parse_keep(text)), (ConfigError, KeepPolicy))
