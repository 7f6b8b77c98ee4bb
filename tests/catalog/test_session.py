"""Transactions, threads, processes, locks."""

from __future__ import annotations

import os
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from holdfast.catalog import Catalog, connection
from holdfast.errors import ConfigError, LockedError
from holdfast.model import Decision, RunFacts, RunInfo, StepRow
from tests.catalog.records import checkpoint


def test_a_transaction_is_one_commit(catalog: Catalog) -> None:
    with catalog.transaction():
        catalog.put_checkpoint(checkpoint(1))
        catalog.add_decisions("digits", [Decision(1.0, "saved", "x", 10)])
        with catalog.transaction():
            catalog.set_sync("digits", journal_nbytes=1, folder_mtime_ns=2)
        assert (catalog.count(), len(catalog.decisions("digits"))) == (1, 1)
        with ThreadPoolExecutor(1) as elsewhere:
            assert elsewhere.submit(catalog.count).result() == 0
    with ThreadPoolExecutor(1) as elsewhere:
        assert elsewhere.submit(catalog.count).result() == 1


def test_an_exception_undoes_the_whole_transaction(catalog: Catalog) -> None:
    catalog.put_checkpoint(checkpoint(1))

    def write_and_fail() -> None:
        with catalog.transaction():
            catalog.put_checkpoint(checkpoint(2))
            catalog.drop_checkpoint(checkpoint(1).info.id)
            raise KeyError("ours")

    with pytest.raises(KeyError, match="ours"):
        write_and_fail()
    assert catalog.checkpoints() == [checkpoint(1)]


def test_an_interrupted_rebuild_never_happened(catalog: Catalog) -> None:
    catalog.put_checkpoint(checkpoint(1, "old", metrics={"loss": 1.0}))

    def rebuild_and_fail() -> None:
        with catalog.rebuilding():
            catalog.replace_run(RunFacts(RunInfo("new", 1.0), (checkpoint(2, "new"),), (), ()))
            raise KeyError("ours")

    with pytest.raises(KeyError, match="ours"):
        rebuild_and_fail()
    assert [one.info.run for one in catalog.checkpoints()] == ["old"]
    assert catalog.best("loss", "min") == checkpoint(1, "old", metrics={"loss": 1.0})


def test_a_rebuild_forgets_what_it_is_not_given(catalog: Catalog) -> None:
    catalog.put_run(RunInfo("old", 1.0))
    catalog.put_checkpoint(checkpoint(1, "old"))
    catalog.mark_pending("old", "old_2")
    with catalog.rebuilding():
        catalog.replace_run(RunFacts(RunInfo("new", 1.0), (checkpoint(2, "new"),), (), ()))
    assert catalog.checkpoints() == [checkpoint(2, "new")]
    assert ([run.name for run in catalog.runs()], catalog.pending()) == (["new"], [])
    catalog.replace_run(RunFacts(RunInfo("new", 2.0), (checkpoint(3, "new"),), (), ()))
    assert catalog.checkpoints() == [checkpoint(3, "new")]


def test_several_threads_write_and_read_at_once(catalog: Catalog) -> None:
    start = threading.Barrier(4)

    def work(run: str) -> int:
        start.wait()
        for number in range(15):
            catalog.put_checkpoint(checkpoint(number, run, metrics={"loss": 1.0 / (number + 1)}))
            catalog.add_steps(run, [StepRow(number, 1.0, {"loss": 1.0})])
            assert catalog.best("loss", "min", run=run) is not None
        return catalog.count(run)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, ["a", "b", "c", "d"])) == [15] * 4
    assert catalog.count() == 60


def test_several_processes_open_a_new_catalog_at_once(place: str, store_id: str) -> None:
    children = []
    for run in ("a", "b", "c"):
        child = os.fork()
        if child == 0:
            done = 1
            try:
                with Catalog.open(place, store_id=store_id) as catalog:
                    for number in range(10):
                        catalog.put_checkpoint(checkpoint(number, run))
                done = 0
            finally:
                os._exit(done)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert codes == [0, 0, 0]
    with Catalog.open(place, store_id=store_id) as catalog:
        assert (catalog.state, catalog.count()) == ("ok", 30)


def test_a_forked_child_has_connections_of_its_own(catalog: Catalog) -> None:
    catalog.put_checkpoint(checkpoint(1))
    with catalog.transaction():
        catalog.put_checkpoint(checkpoint(2))
        child = os.fork()
        if child == 0:
            # The parent's open transaction is not the child's: it reads what was committed.
            os._exit(0 if catalog.count() == 1 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        catalog.put_checkpoint(checkpoint(3))
    child = os.fork()
    if child == 0:
        catalog.put_checkpoint(checkpoint(4))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    catalog.put_checkpoint(checkpoint(5))
    assert catalog.count() == 5


def test_a_catalog_that_stays_locked_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BUSY_TIMEOUT_S", 0)
    path = tmp_path / "catalog.sqlite3"
    with Catalog.open(path, store_id="s") as catalog:
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(LockedError, match="stayed locked"):
            catalog.put_checkpoint(checkpoint(1))
        assert catalog.count() == 0
        holder.execute("ROLLBACK")
        holder.close()
        catalog.put_checkpoint(checkpoint(1))
        assert catalog.count() == 1


@pytest.mark.parametrize(("wal", "mode"), [(True, ("wal",)), (False, ("delete",))])
def test_the_journal_fits_the_place(tmp_path: Path, wal: bool, mode: tuple[str]) -> None:
    path = tmp_path / "catalog.sqlite3"
    with Catalog.open(path, store_id="s", wal=not wal) as catalog:
        catalog.put_checkpoint(checkpoint(1))
    with Catalog.open(path, store_id="s", wal=wal) as catalog:
        catalog.put_checkpoint(checkpoint(2))
        assert (catalog.state, catalog.count()) == ("ok", 2)
        assert Path(f"{path}-wal").exists() == wal
    other = sqlite3.connect(path)
    # A rollback journal's flavour is each connection's own; the file only knows "not WAL".
    assert other.execute("PRAGMA journal_mode").fetchone() == mode
    other.close()


@pytest.mark.parametrize("place", [":memory:", "sqlite:///:memory:"])
@pytest.mark.parametrize("read_only", [True, False])
def test_a_catalog_in_memory_makes_no_file(
    place: str, read_only: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Catalog.open(place, store_id="s", read_only=read_only) as catalog:
        assert catalog.state == "empty"
        catalog.put_checkpoint(checkpoint(1))
        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(catalog.count, [None] * 8)) == [1] * 8
    assert list(tmp_path.iterdir()) == []


def test_a_closed_catalog_says_so(catalog: Catalog) -> None:
    catalog.close()
    catalog.close()
    with pytest.raises(ConfigError, match="is closed"):
        catalog.count()
