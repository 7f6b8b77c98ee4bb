"""Reading without a trace: no file is made or changed beside the catalog, whoever writes it."""

from __future__ import annotations

import atexit
import os
import sqlite3
import tempfile
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select

from holdfast.catalog import Catalog, snapshot
from holdfast.catalog.schema import checkpoints
from holdfast.errors import ConfigError, LockedError
from holdfast.model import RunFacts, RunInfo, StepRow
from tests.catalog.records import checkpoint, numbers

Listing = dict[str, tuple[int, int, int]]


def listing(folder: Path) -> Listing:
    """Returns what a folder holds: names to inodes, sizes and times."""
    return {
        one.name: (one.stat().st_ino, one.stat().st_size, one.stat().st_mtime_ns)
        for one in folder.iterdir()
    }


def ask_everything(catalog: Catalog) -> list[object]:
    """Asks every question that a catalog answers."""
    return [
        catalog.runs(),
        catalog.run("digits"),
        catalog.checkpoints(where="loss < 0.5", order_by="loss"),
        catalog.best("loss", "min"),
        catalog.latest("digits"),
        catalog.at_step("digits", 10),
        catalog.tagged(None, "prod"),
        catalog.history("digits", "loss"),
        catalog.steps("digits"),
        catalog.decisions("digits"),
        catalog.metric_names(),
        catalog.usage(),
        catalog.pending(),
        catalog.sync_states(),
        catalog.ids("digits"),
        catalog.count(),
    ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A catalog with a run in it, closed."""
    path = tmp_path / "catalog.sqlite3"
    records = tuple(checkpoint(n, metrics={"loss": 1 / n}, shards={"s": n}) for n in range(1, 4))
    facts = RunFacts(RunInfo("digits", 1.0), records, (StepRow(1, 1.0, {"loss": 1.0}),), ())
    with Catalog.open(path, store_id="s") as catalog:
        catalog.replace_run(facts)
    return path


def test_a_closed_catalog_is_read_as_it_stands(path: Path) -> None:
    before = listing(path.parent)
    with Catalog.open(path, store_id="s", read_only=True) as catalog:
        assert (catalog.state, catalog.writable) == ("ok", False)
        answers = ask_everything(catalog)
        assert listing(path.parent) == before
    assert listing(path.parent) == before
    with Catalog.open(path, store_id="s") as catalog:
        assert answers == ask_everything(catalog)


def test_what_is_only_in_the_log_is_read_too(path: Path) -> None:
    with Catalog.open(path, store_id="s") as writer:
        writer.put_checkpoint(checkpoint(9))
        before = listing(path.parent)
        assert before["catalog.sqlite3-wal"][1] > 0
        with Catalog.open(path, store_id="s", read_only=True) as catalog:
            latest = catalog.latest()
            assert latest is not None
            assert numbers([latest]) == [9]
            assert ask_everything(catalog) == ask_everything(writer)
            assert listing(path.parent) == before


def test_a_transaction_that_a_crash_left_half_done_is_not_seen(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite3"
    with Catalog.open(path, store_id="s", wal=False) as catalog:
        catalog.put_checkpoint(checkpoint(1))
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("PRAGMA cache_size=1")
    writer.execute("PRAGMA cache_spill=1")
    writer.execute("BEGIN IMMEDIATE")
    many = [(f"{'x' * 3000}{number}", number) for number in range(200)]
    writer.executemany("INSERT INTO holdfast_meta VALUES (?, ?)", many)
    writer.execute("DELETE FROM holdfast_checkpoints")
    before = listing(tmp_path)
    assert before["catalog.sqlite3-journal"][1] > 0
    with Catalog.open(path, store_id="s", read_only=True) as reader:
        assert (reader.state, reader.count()) == ("ok", 1)
        assert listing(tmp_path) == before
    writer.close()


def test_what_is_written_meanwhile_is_seen_by_the_next_query(path: Path) -> None:
    with Catalog.open(path, store_id="s", read_only=True) as reader:
        assert reader.count() == 3
        assert not reader.refresh()
        with Catalog.open(path, store_id="s") as writer:
            for number in range(10, 20):
                writer.put_checkpoint(checkpoint(number))
                assert reader.count() == writer.count()
        assert reader.count() == 13
        path.unlink()
        assert (reader.count(), reader.state) == (0, "empty")
        with Catalog.open(path, store_id="s") as writer:
            writer.put_checkpoint(checkpoint(1))
        assert (reader.count(), reader.state) == (1, "ok")


def test_a_missing_catalog_is_stood_in_for_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite3"
    with Catalog.open(path, store_id="s", read_only=True) as catalog:
        assert (catalog.state, catalog.writable) == ("empty", True)
        catalog.replace_run(RunFacts(RunInfo("digits", 1.0), (checkpoint(1),), (), ()))
        assert catalog.checkpoints() == [checkpoint(1)]
    assert list(tmp_path.iterdir()) == []


def test_writing_is_refused_where_only_reading_was_asked(place: str, store_id: str) -> None:
    with Catalog.open(place, store_id=store_id, read_only=True) as catalog:
        assert catalog.state == "empty"
    with Catalog.open(place, store_id=store_id) as catalog:
        catalog.put_checkpoint(checkpoint(1))
    with Catalog.open(place, store_id=store_id, read_only=True) as catalog:
        assert (catalog.state, catalog.count()) == ("ok", 1)
        with pytest.raises(ConfigError, match="reading only"):
            catalog.put_checkpoint(checkpoint(2))
        with pytest.raises(ConfigError, match="reading only"), catalog.transaction():
            pass
        assert catalog.count() == 1


def test_the_private_copy_goes_with_its_reader_and_not_with_a_fork(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(copies))
    with Catalog.open(path, store_id="s") as writer:
        writer.put_checkpoint(checkpoint(9))
        with Catalog.open(path, store_id="s", read_only=True) as reader:
            assert reader.count() == 4
            assert len(list(copies.iterdir())) == 1
            child = os.fork()
            if child == 0:
                reader.close()
                atexit._run_exitfuncs()
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert len(list(copies.iterdir())) == 1
            assert reader.count() == 4
        assert list(copies.iterdir()) == []


def test_a_path_with_odd_characters_is_still_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "a b?c#d%20é"
    folder.mkdir()
    path = folder / "cat?mode=memory&x.sqlite3"
    with Catalog.open(path, store_id="s") as catalog:
        catalog.put_checkpoint(checkpoint(1))
    assert path.exists()
    with Catalog.open(str(path), store_id="s", read_only=True) as catalog:
        assert catalog.count() == 1
    with Catalog.open(f"sqlite:///{tmp_path}/plain.sqlite3", store_id="s") as catalog:
        assert catalog.state == "empty"
    assert (tmp_path / "plain.sqlite3").exists()


def test_a_copy_is_of_one_moment(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Catalog.open(path, store_id="s") as writer:
        writer.put_checkpoint(checkpoint(9))
        plain = snapshot._copy
        copied: list[Path] = []

        def copy_and_lose_the_log(source: Path, target: Path) -> None:
            plain(source, target)
            if not copied:
                # What a checkpoint by the writer does between the copies of file and log.
                other = sqlite3.connect(source)
                other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                other.close()
                writer.put_checkpoint(checkpoint(10))
                Path(f"{target}-wal").write_bytes(Path(f"{source}-wal").read_bytes())
            copied.append(target)

        monkeypatch.setattr(snapshot, "_copy", copy_and_lose_the_log)
        with Catalog.open(path, store_id="s", read_only=True) as reader:
            assert (reader.state, reader.count()) == ("ok", 5)
        assert len(copied) >= 2


def test_a_catalog_that_never_rests_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Catalog.open(path, store_id="s") as writer:
        writer.put_checkpoint(checkpoint(9))
        monkeypatch.setattr(snapshot, "_copy", lambda source, _: os.utime(source))
        with pytest.raises(LockedError, match="changed each time"):
            Catalog.open(path, store_id="s", read_only=True)


def test_a_file_that_changes_under_a_query_is_asked_again(path: Path) -> None:
    asked = []
    with Catalog.open(path, store_id="s", read_only=True) as reader:

        def ask(connection: Connection) -> int:
            asked.append(connection)
            found = connection.execute(select(func.count()).select_from(checkpoints)).scalar_one()
            if len(asked) == 1:
                with Catalog.open(path, store_id="s") as writer:
                    writer.put_checkpoint(checkpoint(9))
            return found

        assert reader._read(ask) == 4
    assert len(asked) == 2
