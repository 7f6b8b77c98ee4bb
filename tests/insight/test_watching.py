"""A store is read again when something happened, and found again when it was away."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

import holdfast
from holdfast import NotFoundError, when
from holdfast.insight import StoreWatch
from tests.lifecycle.stores import train


@pytest.fixture
def root(tmp_path):
    with holdfast.open(tmp_path / "store") as store:
        train(store, "run", [2, 1])
    return tmp_path / "store"


@pytest.fixture
def watch(root):
    reads = []

    def read(store, overview):
        reads.append(store.path)
        return {run.info.name: run.info.status for run in overview.summary().runs}

    watch = StoreWatch(
        lambda: holdfast.open(root, mode="r"),
        read,
        running=lambda seen: [name for name, status in seen.items() if status == "running"],
    )
    watch.reads = reads
    yield watch
    watch.close()


def test_nothing_is_read_while_nothing_happens(watch):
    watch.first()
    assert [watch.look() for _ in range(5)] == [False] * 5
    assert len(watch.reads) == 1


def test_what_happens_is_seen_at_the_next_look(root, watch):
    watch.first()
    with holdfast.open(root) as store, store.run("new", save=when.never()) as run:
        run.step(0, loss=1.0)
        run.wait()
        assert watch.look()
        assert watch.value == {"run": "finished", "new": "running"}
    assert watch.look()
    assert watch.value["new"] != "running"


def test_an_owner_that_dies_without_a_word_is_news(root, watch):
    script = """
import os, sys, holdfast
run = holdfast.open(sys.argv[1]).run("dying")
run.step(0, loss=1.0)
run.wait()
print("ready", flush=True)
sys.stdin.read()
os._exit(1)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"ready\n"
    watch.first()
    assert watch.value["dying"] == "running"
    assert not watch.look()
    process.communicate()
    assert watch.look()
    assert watch.value["dying"] == "interrupted"
    assert not watch.look()


def test_a_store_that_vanishes_is_a_problem_until_it_is_back(root, watch):
    watch.first()
    root.rename(root.with_name("away"))
    assert watch.look()
    assert watch.problem
    assert watch.value == {"run": "finished"}
    assert not watch.look()
    root.with_name("away").rename(root)
    assert watch.look()
    assert watch.problem == ""
    assert not watch.look()


def test_another_store_in_its_place_is_another_store(root, watch):
    watch.first()
    shutil.rmtree(root)
    with holdfast.open(root) as store:
        train(store, "other", [1])
    assert watch.look()
    assert watch.value == {"other": "finished"}


def test_what_is_no_store_is_a_problem_with_a_reason(root, watch):
    watch.first()
    root.rename(root.with_name("away"))
    root.write_text("")
    assert watch.look()
    assert "is a file" in watch.problem
    root.unlink()
    root.with_name("away").rename(root)
    assert watch.look()
    assert watch.problem == ""


def test_the_first_look_says_what_is_wrong_instead_of_waiting(tmp_path):
    watch = StoreWatch(
        lambda: holdfast.open(tmp_path / "none", mode="r"), lambda *_: 0, running=lambda _: ()
    )
    with pytest.raises(NotFoundError):
        watch.first()
