"""What came since the last look: each row once, and all again where some were taken back."""

from __future__ import annotations

import pytest

import holdfast
from holdfast import when
from holdfast.catalog import Catalog, Cursor
from holdfast.model import Decision, RunInfo, SaveTimes, StepRow


def row(step, at):
    return StepRow(step=step, at=float(at), metrics={"loss": 1.0 / (step + 1)})


@pytest.fixture
def run(catalog):
    catalog.put_run(RunInfo("run", 0.0))
    catalog.put_run(RunInfo("other", 0.0))
    catalog.add_steps("other", [row(step, step) for step in range(3)])
    return "run"


def test_each_row_comes_once_and_those_of_other_runs_never(catalog, run):
    cursor, seen = Cursor(), []
    for step in range(5):
        catalog.add_steps(run, [row(step, step)])
        catalog.add_steps("other", [row(10 + step, step)])
        tail = catalog.steps_since(run, cursor)
        assert not tail.anew
        seen += tail.rows
        cursor = tail.cursor
    assert seen == catalog.steps(run)
    assert catalog.steps_since(run, cursor).rows == []


@pytest.mark.parametrize("replayed", [0, 1, 2, 3, 6])
def test_rows_that_were_taken_back_are_told_of_and_all_come_again(catalog, run, replayed):
    catalog.add_steps(run, [row(step, step) for step in range(6)])
    cursor = catalog.steps_since(run, Cursor()).cursor
    catalog.void_steps(run, 3, before_at=100)
    # As many as went, with the very numbers that these had, or more or less of them.
    catalog.add_steps(run, [row(4 + step, 200 + step) for step in range(replayed)])
    tail = catalog.steps_since(run, cursor)
    assert tail.anew
    assert tail.rows == catalog.steps(run)
    assert not catalog.steps_since(run, tail.cursor).anew


def test_a_run_that_was_deleted_and_begun_again_comes_anew(catalog, run):
    catalog.add_steps(run, [row(step, step) for step in range(6)])
    cursor = catalog.steps_since(run, Cursor()).cursor
    catalog.forget_run(run)
    tail = catalog.steps_since(run, cursor)
    assert (tail.anew, tail.rows) == (True, [])


def test_decisions_are_followed_in_the_same_way(catalog, run):
    decisions = [Decision(float(n), "saved", f"reason {n}", n, f"run_{n}") for n in range(4)]
    catalog.add_decisions(run, decisions[:1])
    first = catalog.decisions_since(run, Cursor())
    catalog.add_decisions(run, decisions[1:])
    assert first.rows + catalog.decisions_since(run, first.cursor).rows == decisions


def test_times_of_saves_are_followed_in_the_same_way(catalog, run):
    times = [SaveTimes(f"run_{n}", n, 10.0 + n, 0.001 * n, 0.1) for n in range(4)]
    catalog.add_times(run, times[:1])
    first = catalog.times_since(run, Cursor())
    catalog.add_times(run, times[1:])
    assert first.rows + catalog.times_since(run, first.cursor).rows == times
    catalog.forget_run(run)
    assert catalog.times_since(run, Cursor()).rows == []


def test_a_watcher_sees_each_commit_of_anybody_and_nothing_else(catalog, run):
    watcher = catalog.watcher()
    before = watcher.version()
    for step in range(3):
        catalog.add_steps(run, [row(step, step)])
        after = watcher.version()
        assert after != before
        before = after
        catalog.steps(run)
    watcher.close()
    watcher.close()


def test_without_a_commit_the_version_stays(tmp_path):
    with Catalog.open(tmp_path / "catalog.sqlite3", store_id="x") as catalog:
        watcher = catalog.watcher()
        version = watcher.version()
        catalog.runs()
        assert watcher.version() == version
        watcher.close()


@pytest.mark.parametrize("mode", ["a", "r"])
def test_a_store_is_watched_from_outside(tmp_path, mode):
    with holdfast.open(tmp_path / "store") as writing:
        run = writing.run("run", save=when.never())
        with holdfast.open(tmp_path / "store", mode=mode) as store:
            watcher = store.watcher()
            version = watcher.version()
            run.step(0, loss=1.0)
            run.attach(model={"w": [1.0]})
            run.save(0).wait()
            assert watcher.version() != version
            tail = store["run"].steps_since()
            assert tail.rows == store["run"].steps() != []
            assert store["run"].decisions_since().rows == store["run"].decisions()
            watcher.close()
        run.close()
