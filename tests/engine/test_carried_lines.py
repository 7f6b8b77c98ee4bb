"""A journal in another place: the facts are there, what was found of one place's files is not."""

import pytest

from holdfast.engine.carriedlines import carried, sound_lines
from holdfast.engine.journal import encode_line, parse

ID = "a_20250101_000000"
FACTS = [
    {"t": "pin", "at": 1.0, "id": ID},
    {"t": "cut", "at": 1.0, "nbytes": 9},
    {"t": "torn", "nbytes": 3},
    {"t": "something of a later version", "damaged": True},
]
OF_FILES = [
    {"t": "damaged", "at": 1.0, "id": ID, "reason": "a flipped bit"},
    {"t": "damaged", "at": 2.0, "id": ID, "reason": "a flipped bit"},
    {"t": "healthy", "at": 3.5, "id": ID, "reason": "read in full"},
    {"t": "verified", "at": 4.0, "ids": []},
    {"t": "verified", "at": 4.0, "ids": [ID] * 900},
]


@pytest.mark.parametrize("record", FACTS, ids=lambda record: record["t"])
def test_a_fact_is_carried_as_it_is(record):
    assert carried(encode_line(record), path="j") == encode_line(record)


@pytest.mark.parametrize("record", OF_FILES, ids=lambda record: record["t"])
def test_a_line_of_the_same_length_stands_for_what_was_found_of_files(record):
    line = encode_line(record)
    there = carried(line, path="j")
    assert len(there) == len(line)
    assert [found["t"] for found in parse(there, path="j").records] == ["elsewhere"]
    assert carried(there, path="j") == there


def test_lines_of_one_length_are_told_apart_by_what_stands_for_them():
    first, second = (carried(encode_line(record), path="j") for record in OF_FILES[:2])
    assert len(first) == len(second)
    assert first != second


def test_what_comes_behind_lies_where_it_lay_and_damage_stays_damage():
    journal = b"".join(map(encode_line, [OF_FILES[0], FACTS[0], OF_FILES[2], FACTS[2]]))
    spoilt = bytearray(journal + b'{"t":"half')
    spoilt[len(encode_line(OF_FILES[0])) + 3] ^= 1
    there = carried(bytes(spoilt), path="j")
    assert len(there) == len(spoilt)
    assert there.endswith(encode_line(FACTS[2]) + b'{"t":"half')
    assert len(parse(there, path="j").damage) == 1
    kinds = [(line.offset, line.record["t"]) for line in sound_lines(there, path="j")]
    assert kinds == [
        (0, "elsewhere"),
        (journal.index(encode_line(OF_FILES[2])), "elsewhere"),
        (journal.index(encode_line(FACTS[2])), "torn"),
    ]


def test_a_line_too_short_to_be_stood_for_is_left():
    line = encode_line({"t": "damaged"})
    assert carried(line, path="j") == line
