"""Sealed JSON: every changed byte is noticed, and what is not strict JSON is refused."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.engine.sealed import (
    decode_metrics,
    encode_numbers,
    parse_strict,
    seal,
    unseal,
)
from holdfast.errors import FormatError, IntegrityError

MEMBERS = {"format": 1, "name": "a+b", "list": [1, 2.5, None, True], "text": "é\u2028"}

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab$", max_size=3), inner),
    max_leaves=10,
)  # fmt: skip


@settings(max_examples=100)
@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), JSON_VALUES, min_size=1))
def test_what_is_sealed_comes_back(members):
    assert unseal(seal(members), path="x") == members


def test_the_seal_is_the_last_78_bytes_and_covers_all_before():
    data = seal(MEMBERS)
    assert data[-78:].startswith(b',"digest":"')
    assert data.endswith(b'"}\n')
    whole = json.loads(data)
    assert whole.pop("digest") == data[-67:-3].decode()
    assert whole == MEMBERS


def test_every_flipped_bit_of_a_sealed_file_is_damage():
    data = seal(MEMBERS)
    for position in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            with pytest.raises(IntegrityError) as caught:
                unseal(bytes(flipped), path="runs/x/manifest.json")
            assert caught.value.path == "runs/x/manifest.json"


@pytest.mark.parametrize("cut", [0, 1, 77, 78, 79, -1])
def test_a_cut_or_extended_file_is_damage(cut):
    data = seal(MEMBERS)
    for other in (data[:cut], data + b" ", data + data, b"", b"\0" * len(data)):
        with pytest.raises(IntegrityError):
            unseal(other, path="x")


REFUSED = {
    "duplicate": b'{"a":1,"a":2}',
    "inner duplicate": b'{"b":[{"a":1,"a":1}]}',
    "NaN": b'{"a":NaN}',
    "infinity": b"[Infinity]",
    "minus infinity": b"-Infinity",
    "deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a number of 5000 digits": b"9" * 5000,
    "half a pair": b'["\\ud800"]',
    "half a pair as a name": b'{"\\uDFFF":1}',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "UTF-32": '{"a":1}'.encode("utf-32-le"),
    "Latin-1": b'{"a":"\xe9"}',
    "byte order mark": b'\xef\xbb\xbf{"a":1}',
    "comment": b'{"a":1} // a',
    "single quotes": b"{'a':1}",
    "trailing comma": b"[1,]",
    "nothing": b"",
    "two values": b"1 2",
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_strict_json_is_a_format_error_that_names_the_file(data):
    with pytest.raises(FormatError, match="the file"):
        parse_strict(data, path="the file")


def test_a_whole_pair_is_text():
    assert parse_strict(b'["\\ud83d\\ude00", "\\\\ud800"]', path="x") == ["\U0001f600", "\\ud800"]


def test_an_intact_file_that_is_no_object_is_a_format_error():
    from blake3 import blake3

    body = b'[1,{"a":2'
    data = body + b',"digest":"' + blake3(body).hexdigest().encode() + b'"}\n'
    with pytest.raises(FormatError):
        unseal(data, path="x")


ENCODED = [
    (float("nan"), "NaN"),
    (float("inf"), "Infinity"),
    (float("-inf"), "-Infinity"),
    ({1: (2, {3})}, {"1": [2, [3]]}),
    ({"path": ValueError("a")}, {"path": "a"}),
    ("\ud800", "\\ud800"),
    ({"\udc80": 1}, {"\\udc80": 1}),
    ([True, None, 1, 1.5], [True, None, 1, 1.5]),
]


@pytest.mark.parametrize(("value", "expected"), ENCODED, ids=repr)
def test_what_people_attach_becomes_json_that_can_be_read_back(value, expected):
    encoded = encode_numbers(value)
    assert encoded == expected
    assert unseal(seal({"a": encoded}), path="x") == {"a": expected}


def test_metrics_are_numbers_or_the_three_words():
    good = {"a": 1, "b": 2.5, "c": "Infinity", "d": "-Infinity"}
    assert decode_metrics(good, path="x") == {
        "a": 1.0, "b": 2.5, "c": float("inf"), "d": float("-inf"),
    }  # fmt: skip
    for bad in (True, "nan", "1", None, [1], {}, 10**400):
        with pytest.raises(FormatError, match="'a'"):
            decode_metrics({"a": bad}, path="x")
    with pytest.raises(FormatError):
        decode_metrics([1], path="x")
