"""Rows of steps on their way to journal and catalog: in pieces, in order, none lost, none twice."""

import math

import pytest

import holdfast
from holdfast import when
from holdfast.errors import SaveError
from holdfast.lifecycle.history import RunHistory
from holdfast.model import StepRow
from holdfast.recorder import StepRecorder


@pytest.fixture
def place(tmp_path):
    with holdfast.open(tmp_path / "store") as store:
        store.run("run", save=when.never()).close()
        yield store._place


def rows(count, *, metrics=1):
    values = {f"m{number}": 0.5 for number in range(metrics)}
    return [StepRow(step, 1.0 + step, {**values, "step": float(step)}) for step in range(count)]


def in_journal(place):
    reading = place.journal("run").read()
    return [record["rows"] for record in reading.records if record["t"] == "steps"]


@pytest.mark.parametrize(
    ("queued", "pieces"),
    [
        (rows(10), [10]),
        (rows(600), [256, 256, 88]),
        (rows(60, metrics=99), [20, 20, 20]),
        (rows(3, metrics=5000), [1, 1, 1]),
    ],
    ids=["few", "many", "wide", "each too wide"],
)
def test_many_rows_are_written_in_pieces_and_in_order(place, queued, pieces):
    recorder = StepRecorder(place, "run")
    for row in queued:
        recorder.add(row)
    length = recorder.flush({"t": "mark"})
    assert [len(piece) for piece in in_journal(place)] == pieces
    assert place.catalog.steps("run") == queued
    assert RunHistory(place.journal("run")).refresh().steps == queued
    assert place.journal("run").read().records[-1]["t"] == "mark"
    assert length == place.journal("run").nbytes == place.catalog.sync_state("run").journal_nbytes
    assert recorder.flush() == 0


def test_what_is_queued_is_what_was_reported_then(place):
    recorder = StepRecorder(place, "run")
    metrics = {"loss": 1.0}
    recorder.add(StepRow(0, 1.0, metrics))
    metrics["loss"] = 2.0
    recorder.flush()
    assert place.catalog.history("run", "loss") == [(0, 1.0)]


def test_a_medium_that_fails_in_between_loses_no_row_and_doubles_none(place, monkeypatch):
    recorder = StepRecorder(place, "run")
    queued = rows(600)
    for row in queued:
        recorder.add(row)
    append, calls = type(place).append, []

    def failing(self, *arguments, **options):
        calls.append(options)
        if len(calls) == 2:
            raise SaveError("the medium failed")
        return append(self, *arguments, **options)

    monkeypatch.setattr(type(place), "append", failing)
    with pytest.raises(SaveError):
        recorder.flush({"t": "mark"}, durable=True)
    assert len(in_journal(place)) == 1
    recorder.flush(durable=True)
    assert [options["durable"] for options in calls] == [False, False, False, True]
    assert place.catalog.steps("run") == queued
    assert [row[0] for piece in in_journal(place) for row in piece] == list(range(600))


def test_odd_values_and_texts_come_back(place):
    recorder = StepRecorder(place, "run")
    odd = [
        StepRow(0, 1.0, {"loss": math.inf, "acc": math.nan}, 3, True, "improved: 😀"),
        StepRow(1, 2.0, {"é": -math.inf}, None, False, ""),
    ]
    for row in odd:
        recorder.add(row)
    recorder.flush()
    history = RunHistory(place.journal("run")).refresh()
    assert history.damage == []
    assert repr(history.steps) == repr(odd)
    assert repr(place.catalog.steps("run")) == repr(odd)
