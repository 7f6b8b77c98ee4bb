"""Values as people read them."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast import announcements
from holdfast.cli import formatting

NOW = 1_800_000_000.0

AGES = [
    (-30, "just now"),
    (0, "just now"),
    (1.9, "just now"),
    (5, "5 s ago"),
    (59.9, "59 s ago"),
    (60, "1 min ago"),
    (3 * 60 + 59, "3 min ago"),
    (3600, "1 h ago"),
    (86_399, "23 h ago"),
    (86_400, "1 d ago"),
    (60 * 86_400, "60 d ago"),
    (61 * 86_400, "2026-11-15"),
]
NUMBERS = [
    (None, "-"),
    (0.0, "0.0000"),
    (0.234, "0.2340"),
    (1.0, "1.0000"),
    (200.0, "200"),
    (-3.5, "-3.5000"),
    (1e-5, "1.000e-05"),
    (1e9, "1.000e+09"),
    (math.nan, "NaN"),
    (math.inf, "inf"),
    (-math.inf, "-inf"),
]


@pytest.mark.parametrize(("seconds", "expected"), AGES)
def test_an_age_reads_as_people_say_it(seconds, expected):
    assert formatting.age(NOW - seconds, now=NOW) == expected


@pytest.mark.parametrize(("value", "expected"), NUMBERS)
def test_a_metric_is_short_and_says_enough(value, expected):
    assert formatting.number(value) == expected


@settings(max_examples=200)
@given(st.integers(0, 10**16))
def test_bytes_read_as_in_the_log(nbytes):
    assert formatting.nbytes_text(nbytes) == announcements.nbytes_text(nbytes)


def test_counts_carry_their_noun():
    assert formatting.count(1, "run") == "1 run"
    assert formatting.count(12_000, "run") == "12,000 runs"


def test_control_characters_of_a_store_never_reach_the_terminal():
    assert formatting.printable("a\x1b[2Jb\r\x00\nc") == "a\\x1b[2Jb\\r\\x00\\nc"
    assert formatting.printable("a\x1b\nc", lines=True) == "a\\x1b\nc"
    assert formatting.printable("größe ▁█") == "größe ▁█"


def test_nested_values_are_shown_by_path_and_large_ones_by_size():
    many = {str(i): i for i in range(40)}
    shown = dict(formatting.leaves({"net": {"depth": 4, "kind": "cnn"}, "env": many, "no": {}}))
    assert shown == {
        "net.depth": "4",
        "net.kind": "cnn",
        "env": "40 values, see --json",
        "no": "{}",
    }


@settings(max_examples=100)
@given(
    st.recursive(
        st.floats() | st.text() | st.none(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_whatever_a_store_holds_becomes_strict_json(value):
    text = json.dumps(formatting.strict(value), allow_nan=False)
    assert json.loads(text) is not None or value is None


def test_numbers_that_json_lacks_are_named():
    values = {"a": [math.nan, math.inf], "b": -math.inf}
    assert formatting.strict(values) == {"a": ["NaN", "Infinity"], "b": "-Infinity"}
