"""Passwords in a catalog's URL: in no message, no log, no file of the store and no command."""

import logging
import sqlite3
import traceback

import numpy as np
import pytest

import holdfast
from holdfast import keep, when
from holdfast.errors import HoldfastError

#: Never to be seen again.
SECRETS = ("hunter2", "hunter3")
SERVER = "127.0.0.1:1"
URLS = [
    f"postgresql+psycopg://user:hunter2@{SERVER}/db",
    f"postgresql+psycopg://user:hunter2@{SERVER}/db?sslpassword=hunter3",
    f"postgresql+psycopg://{SERVER}/db?user=user&password=hunter2",
    f"postgresql+psycopg://user:hunter2@{SERVER}/db?nonsense=hunter3",
    "postgresql+psycopg://user:hunter2@127.0.0.1:hunter3/db",
    "postgresql+psycopg://user:hunter2@[::1/db",
    "postgres://user:hunter2@host/db?password=hunter3",
    "mysql://user:hunter2@host/db",
    "://user:hunter2@host",
]


@pytest.mark.parametrize("mode", ["a", "r"])
@pytest.mark.parametrize("url", URLS)
def test_no_password_is_in_an_error_or_in_what_led_to_it(tmp_path, caplog, url, mode):
    caplog.set_level(logging.DEBUG, "holdfast")
    holdfast.open(tmp_path / "store").close()
    with pytest.raises(HoldfastError) as caught:
        holdfast.open(tmp_path / "store", mode=mode, catalog=url)
    told = "".join(traceback.format_exception(caught.value))
    for text in (str(caught.value), told, caplog.text):
        assert not any(secret in text for secret in SECRETS)


@pytest.mark.parametrize("url", ["s3://key:hunter2@bucket/x", "http://user:hunter2@[::1"])
def test_no_password_of_a_stores_url_is_in_an_error(url):
    with pytest.raises(HoldfastError) as caught:
        holdfast.open(url)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("command", ["doctor", "runs", "usage", "verify"])
def test_no_command_shows_a_password(tmp_path, ask, monkeypatch, command):
    holdfast.open(tmp_path / "store").close()
    monkeypatch.setenv("HOLDFAST_CATALOG", URLS[1])
    for more in ((), ("--json",), ("--verbose",)):
        answer = ask(tmp_path / "store", command, *more)
        assert answer.code != 0
        assert "127.0.0.1" in answer.err
        assert not any(secret in answer.out + answer.err for secret in SECRETS)


def test_no_password_is_written_into_a_store(tmp_path, monkeypatch, ask):
    url = f"sqlite:///{tmp_path / 'elsewhere.sqlite3'}?password=hunter2"
    monkeypatch.setenv("HOLDFAST_CATALOG", url)
    with holdfast.open(tmp_path / "store", catalog=url) as store:
        run = store.run("mine", metric="loss", save=when.always(), keep=keep.all())
        run.attach(model={"w": np.zeros(2)})
        run.step(0, {"loss": 1.0})
        run.finish()
        assert "hunter2" not in repr(run.stats()) + repr(store)
    assert "hunter2" not in ask(tmp_path / "store", "doctor").out
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert [path for path in files if b"hunter2" in path.read_bytes()] == []


ALIEN = [
    "CREATE TRIGGER t AFTER INSERT ON {table} BEGIN DELETE FROM {table}; END",
    "CREATE VIEW v AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x FROM n) SELECT x FROM n",
]


@pytest.mark.parametrize("statement", ALIEN)
def test_a_catalog_with_statements_of_its_own_is_made_anew(tmp_path, statement):
    root = tmp_path / "store"
    with holdfast.open(root) as store:
        store.run("mine", save=when.never(), keep=keep.all()).close()
    with sqlite3.connect(root / "catalog.sqlite3") as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        table = next(name for (name,) in tables if name.endswith("runs"))
        database.execute(statement.format(table=table))
    database.close()
    with holdfast.open(root, mode="r") as store:
        assert [run.name for run in store.runs()] == ["mine"]
    with holdfast.open(root) as store:
        assert [run.name for run in store.runs()] == ["mine"]
    assert (root / "catalog.sqlite3.damaged-1").exists()
    with sqlite3.connect(root / "catalog.sqlite3") as database:
        kinds = database.execute("SELECT DISTINCT type FROM sqlite_master").fetchall()
    database.close()
    assert {kind for (kind,) in kinds} <= {"table", "index"}
