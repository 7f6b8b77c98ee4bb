"""Grouping: what changed together lies together, and nothing else lies in a shard."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.engine import grouping
from holdfast.engine.grouping import MIN_RESTING_NBYTES, aliases_of, group
from holdfast.engine.shardfile import TensorEntry, encode_header

BIG = MIN_RESTING_NBYTES


def entry(name, *, version=0, nbytes=BIG):
    return TensorEntry(name, "U8", (nbytes,), f"{version:064}", nbytes)


def entries(text, **sizes):
    """Returns tensors for ``"a0 b1"``: name and version."""
    return [entry(w[0], version=int(w[1:]), nbytes=sizes.get(w[0], BIG)) for w in text.split()]


def headers(*texts, **sizes):
    return [encode_header(entries(text, **sizes), {})[1] for text in texts]


def grouped(text, *parents, stable="", **sizes):
    found = group(
        entries(text, **sizes), stable=frozenset(stable), parent=headers(*parents, **sizes)
    )
    return [" ".join(sorted(e.name for e in members)) for members in found.all]


CASES = [
    # what is saved, the parent's shards, what is said to rest -> shards
    ("a0 b0", [], "", ["a b"]),
    ("a0 b0", [], "a", ["a", "b"]),
    ("a0 b0", ["a0 b0"], "", ["a b"]),
    ("a0 b1", ["a0 b0"], "", ["a", "b"]),
    ("a0 b2", ["a0", "b1"], "", ["a", "b"]),
    ("a0 b0 c1", ["a0 b0", "c0"], "", ["a b", "c"]),
    # One tensor of a resting shard changes: the others are written once more, among their like.
    ("a0 b1 c1", ["a0 b0", "c0"], "", ["a", "b c"]),
    ("a0 c1", ["a0 b0", "c0"], "", ["a", "c"]),
    ("a0 b0 d0", ["a0 b0"], "", ["a b", "d"]),
    ("a1 b1", ["a0 b0"], "", ["a b"]),
    ("a1 b1", ["a0 b0"], "b", ["b", "a"]),
    ("", ["a0"], "", []),
]


@pytest.mark.parametrize(("text", "parents", "stable", "expected"), CASES)
def test_shards_follow_what_changed(text, parents, stable, expected):
    assert grouped(text, *parents, stable=stable) == expected


def test_little_that_rests_gets_no_shard_of_its_own():
    assert grouped("a0 b1", "a0 b0", a=MIN_RESTING_NBYTES - 1) == ["a b"]
    assert grouped("a0 b1", "a0 b0", a=MIN_RESTING_NBYTES) == ["a", "b"]
    # What has one already keeps it.
    assert grouped("a0 b1", "a0", "b0", a=8) == ["a", "b"]


def test_a_large_group_is_split(monkeypatch):
    monkeypatch.setattr(grouping, "MAX_GROUP_NBYTES", 2 * BIG)
    assert grouped("a0 b0 c0 d0 e0") == ["a b", "c d", "e"]
    assert grouped("a0 b0 c0", a=5 * BIG, b=0) == ["a", "b c"]


def test_a_tensor_of_another_dtype_or_shape_is_another_tensor():
    parent = [encode_header([TensorEntry("a", "U8", (BIG,), "0" * 64, BIG)], {})[1]]
    for dtype, shape in (("I8", (BIG,)), ("U8", (1, BIG))):
        made = group(
            [TensorEntry("a", dtype, shape, "0" * 64, BIG), entry("b", version=1)],
            stable=frozenset(),
            parent=parent,
        )
        assert len(made.all) == 1


def test_an_alias_goes_with_its_tensor():
    aliases = {"tied": "a", "other": "b"}
    assert aliases_of(entries("a0 c0"), aliases) == {"tied": "a"}


STATES = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 1), min_size=0, max_size=8)


@settings(max_examples=200, deadline=None)
@given(
    chain=st.lists(STATES, min_size=1, max_size=5),
    stable=st.frozensets(st.sampled_from("abc")),
    small=st.frozensets(st.sampled_from("abcdefgh")),
)
def test_each_tensor_is_in_one_shard_and_no_shard_holds_another(chain, stable, small):
    parent = []
    for versions in chain:
        now = [
            entry(name, version=version, nbytes=8 if name in small else BIG)
            for name, version in versions.items()
        ]
        groups = group(now, stable=stable, parent=parent).all
        held = [e for members in groups for e in members]
        assert sorted((e.name, e.digest) for e in held) == sorted((e.name, e.digest) for e in now)
        assert all(groups)
        made = [encode_header(members, {})[1] for members in groups]
        # A parent's shard of which nothing changed is there again, under the same name.
        unchanged = [
            header.shard
            for header in parent
            if all((t.name, t.digest) in {(e.name, e.digest) for e in now} for t in header.tensors)
            and all(t.nbytes == (8 if t.name in small else BIG) for t in header.tensors)
        ]
        assert set(unchanged) <= {header.shard for header in made}
        parent = made
