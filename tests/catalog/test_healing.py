"""A catalog that is lost, damaged, outdated or another's is made anew, and says so."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.catalog import Catalog, opening, schema
from holdfast.errors import ConfigError, IntegrityError
from holdfast.model import RunFacts, RunInfo
from tests.catalog.records import checkpoint, numbers

FACTS = RunFacts(
    RunInfo("digits", 1.0),
    tuple(checkpoint(number, metrics={"loss": 1 / number}) for number in range(1, 200)),
    (),
    (),
)


def filled(path: Path) -> None:
    """Makes a catalog with a run in it and closes it."""
    with Catalog.open(path, store_id="s") as catalog:
        catalog.replace_run(FACTS)


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def cut_short(path: Path) -> None:
    os.truncate(path, 50)


def garbled(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(20_000))


def zeroed_inside(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(bytes(path.stat().st_size - 4096))


def head_of_a_page_lost(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * 200)


def another_version(path: Path) -> None:
    change(path, "UPDATE holdfast_meta SET value = '0' WHERE key = 'schema_version'")


def version_gone(path: Path) -> None:
    change(path, "DELETE FROM holdfast_meta")


def table_gone(path: Path) -> None:
    change(path, "DROP TABLE holdfast_scores")


def another_store(path: Path) -> None:
    change(path, "UPDATE holdfast_meta SET value = 'x' WHERE key = 'store_id'")


def change(path: Path, statement: str) -> None:
    """Runs a statement on the file, as another program would."""
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


HARM: list[tuple[Callable[[Path], None], str]] = [
    (Path.unlink, "empty"),
    (lambda path: os.truncate(path, 0), "empty"),
    (cut_short, "damaged"),
    (truncated, "damaged"),
    (garbled, "damaged"),
    (zeroed_inside, "damaged"),
    (head_of_a_page_lost, "damaged"),
    (another_version, "outdated"),
    (version_gone, "outdated"),
    (table_gone, "outdated"),
    (another_store, "foreign"),
]


@pytest.mark.parametrize(("harm", "state"), HARM)
def test_a_harmed_catalog_is_made_anew_and_filled_again(
    tmp_path: Path, harm: Callable[[Path], None], state: str
) -> None:
    path = tmp_path / "catalog.sqlite3"
    filled(path)
    harm(path)
    with Catalog.open(path, store_id="s") as catalog:
        assert (catalog.state, catalog.count(), catalog.runs()) == (state, 0, [])
        catalog.replace_run(FACTS)
    with Catalog.open(path, store_id="s") as catalog:
        assert (catalog.state, catalog.count()) == ("ok", 199)
    aside = sorted(one.name for one in tmp_path.iterdir() if "damaged" in one.name)
    assert aside == (["catalog.sqlite3.damaged-1"] if state == "damaged" else [])


@pytest.mark.parametrize(("harm", "state"), HARM)
def test_a_harmed_catalog_is_only_looked_at_when_read_only(
    tmp_path: Path, harm: Callable[[Path], None], state: str
) -> None:
    path = tmp_path / "catalog.sqlite3"
    filled(path)
    harm(path)
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    with Catalog.open(path, store_id="s", read_only=True) as catalog:
        assert (catalog.state, catalog.count()) == (state, 0)
        catalog.replace_run(FACTS)
        assert catalog.count() == 199
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == before


def test_each_damaged_file_is_kept_under_its_own_name(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite3"
    for _ in range(3):
        garbled(path)
        with Catalog.open(path, store_id="s") as catalog:
            assert catalog.state == "damaged"
    names = {one.name for one in tmp_path.iterdir()}
    assert {f"catalog.sqlite3.damaged-{number}" for number in (1, 2, 3)} <= names


def test_the_log_of_a_damaged_file_is_moved_along_with_it(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite3"
    filled(path)
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", WRITER, str(path)], cwd=root, check=False)
    log = Path(f"{path}-wal").read_bytes()
    garbled(path)
    with Catalog.open(path, store_id="s") as catalog:
        assert (catalog.state, catalog.count()) == ("damaged", 0)
    assert log
    assert Path(f"{path}.damaged-1-wal").read_bytes() == log


def test_tables_that_are_not_ours_survive_a_new_version(tmp_path: Path) -> None:
    path = tmp_path / "shared.sqlite3"
    change(path, "CREATE TABLE runs (name TEXT)")
    change(path, "INSERT INTO runs VALUES ('theirs')")
    filled(path)
    another_version(path)
    with Catalog.open(path, store_id="s") as catalog:
        assert catalog.state == "outdated"
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT name FROM runs").fetchall() == [("theirs",)]
    connection.close()


def test_every_version_of_the_tables_is_made_anew(
    place: str, store_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Catalog.open(place, store_id=store_id) as catalog:
        assert catalog.state == "empty"
        catalog.replace_run(FACTS)
    with Catalog.open(place, store_id=f"{store_id} another") as other:
        assert other.state == ("foreign" if "sqlite" in place else "empty")
    with Catalog.open(place, store_id=store_id) as catalog:
        # SQLite holds one store, so the other one's opening took it over; PostgreSQL holds both.
        assert catalog.state == ("foreign" if "sqlite" in place else "ok")
        catalog.replace_run(FACTS)
    monkeypatch.setattr(schema, "SCHEMA_VERSION", "next")
    with Catalog.open(place, store_id=store_id) as catalog:
        assert (catalog.state, catalog.count()) == ("outdated", 0)
    with Catalog.open(place, store_id=store_id) as catalog:
        assert catalog.state == "ok"


def test_any_flipped_bits_are_healed_or_named(tmp_path: Path) -> None:
    filled(tmp_path / "sound.sqlite3")
    sound = (tmp_path / "sound.sqlite3").read_bytes()
    chance = random.Random(7)
    states = set()
    for number in range(60):
        # Half of the flips hit the first page: the header and the schema are in it.
        end = 4096 if number % 2 else len(sound)
        harmed = bytearray(sound)
        for _ in range(chance.choice([1, 20])):
            harmed[chance.randrange(end)] ^= 1 << chance.randrange(8)
        path = tmp_path / f"{number}.sqlite3"
        path.write_bytes(harmed)
        try:
            with Catalog.open(path, store_id="s") as catalog:
                states.add(catalog.state)
                catalog.checkpoints(order_by="loss")
                catalog.best("loss", "min")
        except IntegrityError as error:
            states.add(error.hint)
    assert {"ok", "damaged"} <= states
    assert all("holdfast reindex" in state for state in states - {"ok", "damaged", "outdated"})


@pytest.mark.parametrize("read_only", [True, False])
def test_damage_met_by_a_query_names_the_way_out(
    tmp_path: Path, read_only: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "catalog.sqlite3"
    filled(path)
    with path.open("r+b") as file:
        file.seek(40 * 4096)
        file.write(bytes(path.stat().st_size - 40 * 4096))
    # As for a file that is too large to be checked in full when it is opened.
    monkeypatch.setattr(opening, "_QUICK_CHECK_NBYTES", 0)
    with Catalog.open(path, store_id="s", read_only=read_only) as catalog:
        assert catalog.state == "ok"
        with pytest.raises(IntegrityError, match="catalog") as caught:
            catalog.checkpoints()
    assert "holdfast reindex" in caught.value.hint


def test_a_catalog_deleted_under_its_opener_can_be_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite3"
    with Catalog.open(path, store_id="s") as catalog:
        catalog.replace_run(FACTS)
        for file in tmp_path.iterdir():
            file.unlink()
        assert catalog.reopen() == "empty"
        catalog.replace_run(FACTS)
        assert catalog.count() == 199


WRITER = """
import os, signal, sys
from holdfast.catalog import Catalog
from holdfast.model import StepRow
from tests.catalog.records import checkpoint
catalog = Catalog.open(sys.argv[1], store_id="s")
for number in range(1, 51):
    catalog.put_checkpoint(checkpoint(number))
with catalog.transaction():
    catalog.put_checkpoint(checkpoint(51))
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("read_only", [True, False])
def test_a_killed_writer_leaves_what_it_committed(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "catalog.sqlite3"
    filled(path)
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", WRITER, str(path)], cwd=root, check=False)
    assert done.returncode == -9
    assert Path(f"{path}-wal").stat().st_size > 0
    with Catalog.open(path, store_id="s", read_only=read_only) as catalog:
        assert catalog.state == "ok"
        found = catalog.checkpoints(where="reason = improved", order_by="step")
        assert numbers(found) == list(range(1, 200))
        assert catalog.best("loss", "min") is not None


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("mysql://host/db", "mysql"),
        ("postgresql://user:secret@host/db", "postgresql"),
        ("sqlite://", "sqlite"),
        ("nothing at all://", "URL"),
    ],
)
def test_an_address_of_another_kind_is_refused_without_its_password(where: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        Catalog.open(where, store_id="s")
    assert "secret" not in str(caught.value)
    assert "postgresql+psycopg://" in caught.value.hint


def test_a_folder_that_is_missing_is_named_as_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="catalog"):
        Catalog.open(tmp_path / "no" / "catalog.sqlite3", store_id="s")
    with pytest.raises(ConfigError, match="cannot be read"):
        Catalog.open(tmp_path, store_id="s")
