"""The catalog is an index: lost, damaged or behind, it is what it was after the next opening."""

import shutil
import sqlite3

import pytest

import holdfast
from holdfast import keep, stop, when
from holdfast.lifecycle import reindex
from tests.runs.samples import attached, manual


@pytest.fixture
def filled(place):
    """A store with two runs that have seen everything."""
    with holdfast.open(place) as store:
        policy = keep.best(2, "loss").items("model") | keep.latest(1)
        save = when.every(steps=2)
        with store.run(
            "study/a", metric="loss", save=save, keep=policy, stop=stop.patience(checks=9),
            config={"lr": 0.1},
        ) as run:  # fmt: skip
            attached(run)
            run.attach(extra={"n": 1})
            for step in range(9):
                run.step(step, loss=10.0 - step, epoch=step // 3)
            run.wait()
            run.report("latest", val_loss=0.5)
            run.latest().pin()
            run.best().tag("prod")
            run.rollback("latest")
        with manual(store, "b") as run:
            run.save(0, {"loss": float("nan")}, awaiting=["val_loss"]).wait()
            run.save(1, {"reward": 1.0}, kind="metrics", metadata={"episode": 7}).wait()
        with store.run("b", save=when.always()) as run:
            attached(run)
            run.step(5, loss=1.0)
            run.finish({"final": 1.0})
    return place


def told(store):
    """Returns all that a store tells, as text: NaN equals itself there."""
    lines = []
    for run in store.runs():
        lines.append(repr((run.name, run.info)))
        lines += [repr(c.record) for c in run.checkpoints(order_by="created_at")]
        lines += [repr(row) for row in run.steps()]
        lines += [repr(run.history(name)) for name in run.metric_names()]
        lines += sorted(repr((d.fate, d.step, d.checkpoint_id, d.reason)) for d in run.decisions())
    return lines


def delete(path):
    path.unlink()


def truncate(path):
    path.write_bytes(path.read_bytes()[:5000])


def scribble(path):
    path.write_bytes(b"this is no database" * 300)


def change_schema(path):
    with sqlite3.connect(path) as database:
        for (table,) in database.execute("select name from sqlite_master where type='table'"):
            columns = [row[1] for row in database.execute(f"pragma table_info({table})")]
            if {"key", "value"} <= set(columns):
                database.execute(f"update {table} set value = '999'")
    database.close()


@pytest.mark.parametrize("harm", [delete, truncate, scribble, change_schema])
def test_a_harmed_catalog_is_rebuilt_with_a_word_and_equals_what_was(filled, log, harm):
    with holdfast.open(filled) as store:
        before = told(store)
    assert any("nan" in line for line in before)
    for name in ("catalog.sqlite3-wal", "catalog.sqlite3-shm"):
        (filled / name).unlink(missing_ok=True)
    harm(filled / "catalog.sqlite3")
    log.clear()
    with holdfast.open(filled) as store:
        assert told(store) == before
    assert any("rebuilt from the files" in r.getMessage() for r in log.records)


@pytest.mark.parametrize("table", ["checkpoints", "scores", "tags", "holdings", "steps"])
def test_rows_that_were_deleted_by_hand_come_back_with_reindex(filled, table):
    with holdfast.open(filled) as store:
        before = told(store)
    with sqlite3.connect(filled / "catalog.sqlite3") as database:
        assert database.execute(f"delete from holdfast_{table}").rowcount > 0
    database.close()
    with holdfast.open(filled) as store:
        assert store.reindex() == 2
        assert told(store) == before


def test_a_catalog_that_lags_is_brought_up_to_date_with_a_word(filled, log):
    catalog = filled / "catalog.sqlite3"
    old = catalog.read_bytes()
    with holdfast.open(filled) as store:
        with manual(store, "later") as run:
            run.save(0, {"loss": 3.0}).wait()
        store.get("b@latest").report(val_loss=0.25)
        before = told(store)
    for name in ("catalog.sqlite3-wal", "catalog.sqlite3-shm"):
        (filled / name).unlink(missing_ok=True)
    catalog.write_bytes(old)
    with holdfast.open(filled) as store:
        assert told(store) == before
    assert "was behind on 2 runs" in log.text


def test_a_run_whose_folder_is_gone_is_forgotten(filled):
    shutil.rmtree(filled / "runs" / "b")
    with holdfast.open(filled) as store:
        assert [run.name for run in store.runs()] == ["study/a"]


def test_the_catalog_may_lie_elsewhere(place, tmp_path):
    elsewhere = tmp_path / "index.sqlite3"
    with holdfast.open(place, catalog=str(elsewhere)) as store, manual(store) as run:
        run.save(0, {"loss": 1.0}).wait()
    assert elsewhere.exists()
    assert not (place / "catalog.sqlite3").exists()
    with holdfast.open(place) as store:
        assert store.best("loss").step == 0


def test_nobody_writes_the_catalog_between_reading_the_files_and_noting_them(filled, monkeypatch):
    catalog = filled / "catalog.sqlite3"
    real = reindex.gather
    refused = []

    def gather_while_another_writes(place, run, *read):
        facts = real(place, run, *read)
        other = sqlite3.connect(catalog, timeout=0, isolation_level=None)
        try:
            other.execute("begin immediate")
        except sqlite3.OperationalError as error:
            refused.append(str(error))
        finally:
            other.close()
        return facts

    monkeypatch.setattr(reindex, "gather", gather_while_another_writes)
    with (filled / "runs/b/journal.jsonl").open("a") as journal:
        journal.write("torn")
    holdfast.open(filled).close()
    assert refused == ["database is locked"]
