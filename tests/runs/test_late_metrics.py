"""Metrics that arrive after their checkpoint."""

import math
import signal
import subprocess
import sys

import pytest

import holdfast
from holdfast import keep, when
from tests.runs.samples import attached, manual, saved, slow, steps_of

# Reports, says so, and is killed before it can do anything else.
REPORTER = """
import os, signal, sys, holdfast
store = holdfast.open(sys.argv[1])
store.get(sys.argv[2]).report(val_loss=float(sys.argv[3]))
os.kill(os.getpid(), signal.SIGKILL)
"""


def report_elsewhere(place, checkpoint_id, value):
    command = [sys.executable, "-c", REPORTER, str(place), checkpoint_id, str(value)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_a_late_metric_ranks_at_once(store):
    with manual(store, metric="val_loss") as run:
        first = saved(run, 0, {"val_loss": 1.0})
        saved(run, 1, {"val_loss": 2.0})
        assert run.best() == first
        run.report(1, val_loss=0.5)
        assert run.best().step == 1
        first.report(val_loss=0.1)
        assert run.best() == first
        assert first.metrics == {"val_loss": 0.1}


def test_a_score_from_another_process_survives_its_death_and_ranks_at_once(place):
    with holdfast.open(place) as store, manual(store, metric="val_loss") as run:
        ids = [saved(run, step, {"val_loss": 1.0 + step}).id for step in range(2)]
        report_elsewhere(place, ids[1], 0.25)
        assert run.best().id == ids[1]
        assert store["run"].best().metrics["val_loss"] == 0.25
    with holdfast.open(place) as again:
        assert again.best("val_loss", run="run").id == ids[1]
        (place / "catalog.sqlite3").unlink()
    with holdfast.open(place) as rebuilt:
        assert rebuilt.get(ids[1]).metrics["val_loss"] == 0.25


def test_a_reporter_that_dies_between_journal_and_catalog_loses_no_score(place, monkeypatch):
    with holdfast.open(place) as store, manual(store, metric="val_loss") as run:
        checkpoint = saved(run, 0, {"val_loss": 1.0})
    with holdfast.open(place) as store:

        def die(*_):
            raise holdfast.LockedError("the process died here")

        late = store.get(checkpoint.id)
        monkeypatch.setattr(store._place.catalog, "report", die)
        late.report(val_loss=0.5)
    with holdfast.open(place) as again:
        assert again.get(checkpoint.id).metrics == {"val_loss": 0.5}


def test_a_late_metric_counts_for_what_is_kept(store):
    with manual(store, metric="val_loss", keep=keep.best(1)) as run:
        saved(run, 0, {"val_loss": 1.0})
        saved(run, 1, {"val_loss": 2.0})
        run.report("step:1", val_loss=0.5)
        saved(run, 2, {"val_loss": 3.0})
        assert steps_of(run) == [1, 2]


def test_a_late_metric_counts_for_what_improved(store):
    with store.run("run", metric="loss", save=when.improved()) as run:
        attached(run)
        run.step(0, loss=1.0)
        run.report(0, loss=0.1)
        assert not run.step(1, loss=0.5)
        assert run.step(2, loss=0.05)


def test_a_late_nan_takes_a_checkpoint_out_of_the_ranking(store):
    with manual(store, metric="val_loss") as run:
        saved(run, 0, {"val_loss": 1.0})
        saved(run, 1, {"val_loss": 0.5})
        run.report(1, val_loss=math.nan)
        assert run.best().step == 0


def test_a_nested_late_report_has_slashes(store):
    with manual(store) as run:
        checkpoint = saved(run, 0)
        checkpoint.report(eval={"loss": 0.5})
        assert store.get(checkpoint.id).metrics == {"eval/loss": 0.5}


def test_metrics_that_are_merged_while_the_save_is_under_way_are_not_lost(store):
    with store.run("run", metric="val_loss", save=when.always()) as run:
        attached(run)
        with slow(store) as medium:
            run.step(0, loss=1.0)
            assert medium.waiting.wait(60)
            assert run.step(0, val_loss=0.5).code == "merged"
        run.wait()
        assert run.best().metrics == {"loss": 1.0, "val_loss": 0.5}
        assert run.history("val_loss") == [(0, 0.5)]


def test_metrics_that_reach_the_journal_before_their_checkpoint_are_not_lost(store, log):
    with store.run("run", metric="val_loss", save=when.always()) as run:
        attached(run)
        with slow(store) as medium:
            run.step(0, loss=1.0)
            assert medium.waiting.wait(60)
            run.step(0, val_loss=0.5)
            run._session.recorder.flush()
        run.wait()
        assert run.best().metrics == {"loss": 1.0, "val_loss": 0.5}
        assert run.history("loss") == [(0, 1.0)]
    assert "lags behind" not in log.text


def test_a_report_on_what_is_gone_says_so(store):
    with manual(store, keep=keep.none()) as run:
        checkpoint = saved(run, 0)
        with pytest.raises(holdfast.NotFoundError, match="deleted"):
            checkpoint.report(loss=1.0)
        with pytest.raises(holdfast.NotFoundError):
            run.report(0, loss=1.0)


@pytest.mark.parametrize("value", ["good", None, [1.0]])
def test_a_late_value_that_is_no_number_is_refused_and_nothing_changes(store, value):
    with manual(store) as run:
        checkpoint = saved(run, 0, {"loss": 1.0})
        with pytest.raises(holdfast.MetricError):
            checkpoint.report(loss=value)
        assert store.get(checkpoint.id).metrics == {"loss": 1.0}


def test_reporters_of_several_processes_lose_nothing(place):
    with holdfast.open(place) as store, manual(store) as run:
        ids = [saved(run, step).id for step in range(3)]
        command = [sys.executable, "-c", REPORTER, str(place)]
        started = [
            subprocess.Popen([*command, one, str(number)], stderr=subprocess.PIPE)
            for number, one in enumerate(ids)
        ]
        for process in started:
            _, trouble = process.communicate(timeout=60)
            assert process.returncode == -signal.SIGKILL, trouble
        assert [store.get(one).metrics["val_loss"] for one in ids] == [0.0, 1.0, 2.0]
