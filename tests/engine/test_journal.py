"""The journal: nothing lost, torn tails tolerated, damage reported."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.engine.journal import Journal, encode_line, parse
from holdfast.errors import FormatError
from holdfast.storage import LocalStorage
from tests.storage.faulty import Recorder

RECORDS = [
    {"t": "pin", "at": 1.5, "id": "a_20251031_142530"},
    {"t": "report", "id": "x", "metrics": {"loss": math.nan, "acc": 0.5}},
    {"t": "status", "at": 2.0, "status": "finished"},
]

WRITER = """
import sys
from pathlib import Path
from holdfast.engine.journal import Journal
from holdfast.storage import LocalStorage
journal = Journal(LocalStorage(Path(sys.argv[1])), "journal.jsonl")
for number in range(100):
    journal.append([{"t": "mark", "who": sys.argv[2], "number": number}], durable=number % 10 == 0)
"""


@pytest.fixture
def journal(tmp_path):
    return Journal(LocalStorage(tmp_path), "journal.jsonl")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.jsonl"


def kinds(reading):
    return [record["t"] for record in reading.records]


def test_what_is_appended_is_read_back_in_order(journal, path):
    assert journal.read().records == ()
    before, after = journal.append(RECORDS[:2], durable=True)
    assert (before, after) == (0, path.stat().st_size)
    assert journal.append(RECORDS[2:], durable=False) == (after, path.stat().st_size)
    reading = journal.read()
    assert kinds(reading) == ["pin", "report", "status"]
    assert reading.records[1]["metrics"] == {"loss": "NaN", "acc": 0.5}
    assert (reading.damage, reading.nbytes, reading.torn_nbytes) == ((), journal.nbytes, 0)


@pytest.mark.parametrize(
    ("metrics", "reason", "read"),
    [
        ({"loss": 0.5}, "plain", [{"loss": 0.5}, "plain"]),
        ({"loss": math.nan}, "no number", [{"loss": "NaN"}, "no number"]),
        ({"loss": -math.inf}, "", [{"loss": "-Infinity"}, ""]),
        ({"loss": 1}, "\N{GRINNING FACE}", [{"loss": 1}, "\N{GRINNING FACE}"]),
        ({"loss": 1}, "half of \udc80", [{"loss": 1}, r"half of \udc80"]),
        ({"loss": np.float32(0.5)}, "odd", [{"loss": 0.5}, "odd"]),
    ],
)
def test_a_line_of_steps_is_written_like_any_other(journal, metrics, reason, read):
    journal.append([{"t": "steps", "rows": [(1, metrics, reason)]}], durable=False)
    reading = journal.read()
    assert (reading.damage, [record["rows"] for record in reading.records]) == ((), [[[1, *read]]])


def test_a_line_is_json_that_ends_in_sixteen_digits_of_its_digest():
    line = encode_line(RECORDS[0])
    whole = json.loads(line)
    assert len(whole.pop("digest")) == 16
    assert whole == RECORDS[0]
    assert line.endswith(b'"}\n')


def test_reading_goes_on_where_the_last_one_ended(journal):
    offset, seen = 0, []
    for record in RECORDS:
        journal.append([record], durable=False)
        reading = journal.read(start=offset)
        offset = reading.nbytes
        seen += kinds(reading)
    assert seen == ["pin", "report", "status"]
    assert journal.read(start=offset).records == ()
    assert journal.read(start=offset + 1000).records == ()


def test_a_tail_torn_at_any_byte_loses_that_line_only_and_is_no_damage(journal, path):
    journal.append(RECORDS[:2], durable=True)
    start = journal.nbytes
    journal.append(RECORDS[2:], durable=True)
    whole = path.read_bytes()
    for cut in range(start + 1, len(whole)):
        path.write_bytes(whole[:cut])
        torn = journal.read()
        assert kinds(torn) == ["pin", "report"]
        assert (torn.damage, torn.nbytes, torn.torn_nbytes) == ((), start, cut - start)
        journal.append([{"t": "next"}], durable=True)
        healed = journal.read()
        assert healed.damage == ()
        assert healed.torn_nbytes == 0
        # A line that lacks its line feed alone is whole once that is there.
        lost = [] if cut == len(whole) - 1 else ["status"]
        assert kinds(healed) == [
            k for k in ["pin", "report", "status", "torn", "next"] if k not in lost
        ]
        assert healed.records[-2]["nbytes"] == cut - start
        # One who had read up to the torn tail goes on there and sees the same.
        assert journal.read(start=torn.nbytes).damage == ()


def test_a_torn_tail_longer_than_what_is_read_at_once_is_counted_in_full(journal, path):
    journal.append(RECORDS[:1], durable=True)
    with path.open("ab") as file:
        file.write(b'{"t":"steps","rows":[' + b"[1]," * 200_000)
    journal.append([{"t": "next"}], durable=True)
    reading = journal.read()
    assert kinds(reading) == ["pin", "torn", "next"]
    assert (reading.records[1]["nbytes"], reading.damage) == (21 + 800_000, ())


def test_a_tail_that_no_writer_leaves_is_refused_and_not_read_into_memory(
    journal, path, monkeypatch
):
    monkeypatch.setattr("holdfast.engine.journal.MAX_LINE_NBYTES", 1000)
    monkeypatch.setattr("holdfast.engine.journal._TAIL_NBYTES", 100)
    path.write_bytes(b"x" * 100_000)
    with pytest.raises(FormatError, match="line of more than 1000 bytes"):
        journal.append(RECORDS[:1], durable=True)
    assert path.read_bytes() == b"x" * 100_000


def test_every_flipped_byte_costs_one_line_and_is_reported(journal, path):
    journal.append([*RECORDS, {"t": "next"}], durable=True)
    whole = path.read_bytes()
    first, second = (len(encode_line(record)) for record in RECORDS[:2])
    for position in range(first, first + second - 1):
        flipped = bytearray(whole)
        flipped[position] ^= 1
        path.write_bytes(flipped)
        reading = journal.read()
        assert "pin" in kinds(reading)
        assert "report" not in kinds(reading)
        assert kinds(reading)[-2:] == ["status", "next"]
        assert len(reading.damage) >= 1
        assert f"byte {first} " in reading.damage[0]


def test_a_last_line_feed_that_became_another_byte_is_damage_and_stays_so(journal, path):
    journal.append(RECORDS, durable=True)
    whole = path.read_bytes()
    for bit in range(8):
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1 << bit]))
        reading = journal.read()
        assert kinds(reading) == ["pin", "report"]
        assert len(reading.damage) == 1
        # Whoever appends takes it for a torn tail; what was lost is told all the same.
        journal.append([{"t": "next"}], durable=True)
        assert kinds(journal.read()) == ["pin", "report", "torn", "next"]
        assert journal.read().damage == reading.damage


def test_a_damaged_last_line_that_was_finished_is_damage(journal, path):
    journal.append(RECORDS, durable=True)
    data = bytearray(path.read_bytes())
    data[-30] ^= 1
    path.write_bytes(data)
    assert len(journal.read().damage) == 1


def test_an_empty_line_has_lost_nothing_and_excuses_nothing(journal, path):
    journal.append(RECORDS[:1], durable=True)
    with path.open("ab") as file:
        file.write(b"\n")
    journal.append(RECORDS[1:2], durable=True)
    assert (kinds(journal.read()), journal.read().damage) == (["pin", "report"], ())
    with path.open("ab") as file:
        file.write(b"spoilt\n\n")
    journal.append([{"t": "torn", "nbytes": len("spoilt")}], durable=True)
    assert len(journal.read().damage) == 1


def test_a_torn_line_that_counts_other_bytes_excuses_nothing(path, journal):
    path.write_bytes(b"x" * 7 + b"\n" + encode_line({"t": "torn", "nbytes": 8}))
    assert len(journal.read().damage) == 1
    path.write_bytes(b"x" * 7 + b"\n" + encode_line({"t": "torn", "nbytes": 7}))
    assert journal.read().damage == ()


def test_appends_of_four_processes_lose_nothing(tmp_path, journal):
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name]) for name in "abcd"
    ]
    seen, offset = [], 0
    while any(writer.poll() is None for writer in writers) or offset < journal.nbytes:
        reading = journal.read(start=offset)
        assert reading.damage == ()
        offset = reading.nbytes
        seen += reading.records
    assert [writer.returncode for writer in writers] == [0] * 4
    for name in "abcd":
        assert [r["number"] for r in seen if r["who"] == name] == list(range(100))


def test_a_durable_append_syncs_the_bytes_and_a_new_file_its_name(tmp_path):
    recorder = Recorder()
    journal = Journal(LocalStorage(tmp_path, posix=recorder.posix), "journal.jsonl")
    journal.append(RECORDS[:1], durable=True)
    assert recorder.names == ["open_append", "write", "fsync", "close", "fsync_folder"]
    recorder.lines.clear()
    journal.append(RECORDS[1:], durable=True)
    assert recorder.names == ["open_append", "write", "fsync", "close"]


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_are_records_damage_or_a_torn_tail(data):
    reading = parse(data, path="x")
    assert reading.records == ()
    assert reading.nbytes + reading.torn_nbytes == len(data)
    # Each line that has anything in it; the last part is the tail.
    assert len(reading.damage) == sum(bool(line) for line in data.split(b"\n")[:-1])


@pytest.mark.parametrize("value", [[], "x", 5, None, {}, {"t": 5}, {"x": 1}])
def test_a_sealed_line_that_is_no_record_is_damage(value):
    from blake3 import blake3

    body = json.dumps(value).encode()[:-1]
    line = body + b',"digest":"' + blake3(body).hexdigest(length=8).encode() + b'"}\n'
    reading = parse(line, path="x")
    assert reading.records == ()
    assert len(reading.damage) == 1
