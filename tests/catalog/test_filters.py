"""The language of ``where=``: what it means, and what it says to a wrong text."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.catalog.filters import Term, parse
from holdfast.errors import ConfigError

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC).timestamp()

MEANINGS = [
    ("", ()),
    ("   ", ()),
    ("loss < 0.3", (Term("loss", "<", 0.3, metric=True),)),
    ("loss<0.3", (Term("loss", "<", 0.3, metric=True),)),
    ("step >= 100", (Term("step", ">=", 100),)),
    ("step = 1e3", (Term("step", "=", 1000.0),)),
    ("epoch == 2", (Term("epoch", "=", 2),)),
    ("loss > -1e-3", (Term("loss", ">", -0.001, metric=True),)),
    ("kind = full and tag = prod", (Term("kind", "=", "full"), Term("tag", "=", "prod"))),
    ("pinned = true AND damaged != True", (Term("pinned", "=", True), Term("damaged", "!=", True))),
    ('run = "digits*"', (Term("run", "=", "digits*"),)),
    ("run = study/trial-7", (Term("run", "=", "study/trial-7"),)),
    ("tag = 'a b'", (Term("tag", "=", "a b"),)),
    ('tag = "say ""hi"""', (Term("tag", "=", 'say "hi"'),)),
    ("eval/loss.mean <= 1", (Term("eval/loss.mean", "<=", 1, metric=True),)),
    ("`val loss` != 1", (Term("val loss", "!=", 1, metric=True),)),
    ("`step` < 3", (Term("step", "<", 3, metric=True),)),
    ('tag = "and" and step = 1', (Term("tag", "=", "and"), Term("step", "=", 1))),
    ("created_at >= 2026-01-01", (Term("created_at", ">=", NEW_YEAR),)),
    ("created_at < 2026-01-01T01:00", (Term("created_at", "<", NEW_YEAR + 3600),)),
    ("created_at < 2026-01-01T01:00+01:00", (Term("created_at", "<", NEW_YEAR),)),
    ("created_at < 5.5", (Term("created_at", "<", 5.5),)),
]

WRONG = [
    ("loss", 4),
    ("loss <", 6),
    ("< 3", 0),
    ("loss << 3", 6),
    ("loss < 3 or step = 1", 9),
    ("loss < 3 step = 1", 9),
    ("loss < 3 and", 12),
    ("and loss < 3", 0),
    ("loss < abc", 7),
    ("loss < nan", 7),
    ("loss < inf", 7),
    ("step = ten", 7),
    ("created_at < tomorrow", 13),
    ("pinned = maybe", 9),
    ("pinned < true", 7),
    ("run > a", 4),
    ("kind = fulll", 7),
    ('tag = "open', 6),
    ("tag = it's", 8),
    ("`` = 3", 0),
    ("loss = 'text'", 7),
]


@pytest.mark.parametrize(("where", "terms"), MEANINGS)
def test_a_filter_means_its_terms(where: str, terms: tuple[Term, ...]) -> None:
    assert parse(where) == terms


@pytest.mark.parametrize(("where", "position"), WRONG)
def test_a_wrong_filter_shows_where_and_an_example(where: str, position: int) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(where)
    assert f"at position {position}," in caught.value.message
    assert caught.value.message.splitlines()[-1] == "  " + " " * position + "^"
    assert "loss < 0.3" in caught.value.hint


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("ab<>=!\"'` \n;-*and1."), max_size=20))
def test_any_text_is_a_filter_or_a_config_error(where: str) -> None:
    try:
        fields = [term.field for term in parse(where)]
    except ConfigError as error:
        fields = [error.message]
    assert all(fields)
