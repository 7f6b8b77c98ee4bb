"""What cannot be meant is refused: one clear error, what to do about it, and nothing is lost."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import holdfast
from holdfast import keep, stop, when


@pytest.fixture
def filled(tmp_path):
    """A store with one checkpoint, which every test must leave as it is."""
    place = tmp_path / "store"
    with holdfast.open(place) as store, store.run("digits", metric="loss") as run:
        run.attach(model={"w": np.arange(4.0)})
        run.save(0, {"loss": 1.0}).wait()
    yield place
    with holdfast.open(place) as store:
        assert store.get("digits@step:0").load("model")["w"].tolist() == [0.0, 1.0, 2.0, 3.0]


@pytest.fixture
def store(filled):
    with holdfast.open(filled) as opened:
        yield opened


def refused(error, act, *words):
    """Asserts that something is refused by one clear error with a hint."""
    with pytest.raises(error) as caught:
        act()
    for word in words:
        assert word in str(caught.value)
    assert caught.value.hint
    assert caught.value.exit_code != 0
    assert "\n" not in caught.value.message


POLICIES = {
    "best-0": (lambda: keep.best(0, "loss"), "0"),
    "best-text": (lambda: keep.best("2", "loss"), "'2'"),
    "latest-negative": (lambda: keep.latest(-1), "-1"),
    "every-nothing": (keep.every, "every"),
    "cap-of-nothing": (lambda: keep.all().capped("many"), "many"),
    "when-every-0": (lambda: when.every(steps=0), "0"),
    "when-improved-by": (lambda: when.improved("loss", by="much"), "much"),
    "when-mode": (lambda: when.improved("loss", mode="up"), "up"),
    "when-and-keep": (lambda: when.always() | keep.all(), "keep"),
    "stop-0": (lambda: stop.patience("loss", checks=0), "0"),
    "or-instead-of-bar": (lambda: when.always() or when.never(), "truth value"),
    "preset": (lambda: holdfast.preset("brave"), "brave"),
    "strategy": (lambda: holdfast.CheckpointStrategy(-1), "-1"),
}


@pytest.mark.parametrize(("act", "word"), POLICIES.values(), ids=POLICIES)
def test_a_policy_that_cannot_be_meant_is_refused(act, word):
    refused(holdfast.ConfigError, act, word)


RUNS = {
    "unknown-metric": ({"metric": "distance"}, "distance"),
    "no-metric": ({"save": when.improved()}, "metric"),
    "keep-unknown": ({"keep": keep.best(2, "distance")}, "distance"),
    "mode": ({"metric": "loss", "mode": "down"}, "down"),
    "if-exists": ({"if_exists": "replace"}, "replace"),
    "on-save-error": ({"on_save_error": "ignore"}, "ignore"),
    "backlog": ({"backlog": "drop"}, "drop"),
    "snapshot": ({"snapshot": "shadow"}, "shadow"),
    "memory": ({"memory": "much"}, "much"),
    "exists": ({"if_exists": "error"}, "digits"),
}


@pytest.mark.parametrize(("options", "word"), RUNS.values(), ids=RUNS)
def test_a_run_that_cannot_be_meant_is_refused_and_takes_no_lock(store, options, word):
    refused(holdfast.ConfigError, lambda: store.run("digits", **options), word)
    with store.run("digits") as run:
        assert run.status == "running"


@pytest.mark.parametrize(
    "name", ["../digits", "a/../b", "/etc", "", ".", "a//b", "a b", "a+b", "ä", "x" * 300, None, 7]
)
def test_a_run_name_that_leads_elsewhere_is_refused(store, name):
    before = sorted(store.path.rglob("*"))
    refused(holdfast.ConfigError, lambda: store.run(name), "name")
    assert sorted(store.path.rglob("*")) == before


@pytest.mark.parametrize("tag", ["", "a/b", "../x", "."])
def test_a_tag_that_leads_elsewhere_is_refused(store, tag):
    refused(holdfast.ConfigError, lambda: store.latest().tag(tag), "tag")
    assert store.latest().tags == ()


@pytest.mark.parametrize("name", ["rng", "a/b", "..", "a b"])
def test_an_item_name_that_is_not_allowed_is_refused(store, name):
    with store.run("digits") as run:
        refused(holdfast.ConfigError, lambda: run.attach(**{name: {}}), name)


@pytest.mark.parametrize("step", [-1, 1.5, "3", None, True])
def test_a_step_that_is_none_is_refused(store, step):
    with store.run("digits", save=when.always()) as run:
        refused(holdfast.ConfigError, lambda: run.step(step), repr(step))
        refused(holdfast.ConfigError, lambda: run.save(step), repr(step))


@pytest.mark.parametrize(
    "metrics", [{"loss": "low"}, {"loss": [1, 2]}, {"loss": np.zeros(3)}, {"a": {"b": None}},
                {"eval/loss": 1, "eval": {"loss": 2}}, {"los\udce9": 1.0}, {"a": {"\ud800": 1.0}}]
)  # fmt: skip
def test_a_metric_that_is_no_number_is_refused(store, metrics):
    with store.run("digits", save=when.always()) as run:
        refused(holdfast.MetricError, lambda: run.step(5, metrics), "metric")
    assert [c.step for c in store.checkpoints()] == [0]


REFERENCES = {
    "run": ("digit@latest", holdfast.NotFoundError),
    "step": ("digits@step:9", holdfast.NotFoundError),
    "tag": ("digits@tag:prod", holdfast.NotFoundError),
    "metric": ("digits@best:val_loss", holdfast.NotFoundError),
    "direction": ("digits@best:los", holdfast.ConfigError),
    "selector": ("digits@newest", holdfast.ConfigError),
    "text": ("digits", holdfast.ConfigError),
    "id": ("digits_20200101_000000", holdfast.NotFoundError),
    "path": ("../x@latest", holdfast.ConfigError),
}


@pytest.mark.parametrize(("reference", "error"), REFERENCES.values(), ids=REFERENCES)
def test_a_reference_to_nothing_is_refused(store, reference, error):
    with pytest.raises(error) as caught:
        store.get(reference)
    assert caught.value.hint or caught.value.nearest


def test_a_deletion_of_nothing_says_so(store):
    refused(holdfast.NotFoundError, lambda: store.delete("digts*"))
    refused(holdfast.NotFoundError, lambda: store.prune("digts"), "digts")


PLACES = {
    "s3": ("s3://bucket/runs", holdfast.ConfigError),
    "gs": ("gs://bucket/runs", holdfast.ConfigError),
    "http": ("http://host/x", holdfast.ConfigError),
}


@pytest.mark.parametrize(("url", "error"), PLACES.values(), ids=PLACES)
def test_a_kind_of_store_that_there_is_not_is_refused(url, error):
    refused(error, lambda: holdfast.open(url), url.partition(":")[0])


def test_a_store_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    refused(holdfast.ConfigError, lambda: holdfast.open(tmp_path / "file"), "is a file")
    with pytest.raises(holdfast.HoldfastError):
        holdfast.open(tmp_path / "file" / "below")
    assert (tmp_path / "file").read_text() == "mine"


def test_reading_a_store_that_is_not_there_makes_none(tmp_path):
    refused(holdfast.NotFoundError, lambda: holdfast.open(tmp_path / "no", mode="r"), "no store")
    assert not (tmp_path / "no").exists()


def test_modes_and_mirrors_that_there_are_not_are_refused(tmp_path):
    refused(holdfast.ConfigError, lambda: holdfast.open(tmp_path / "x", mode="w"), "'w'")
    mirrors = ["s3://bucket/x"]
    refused(
        holdfast.ConfigError,
        lambda: holdfast.open(tmp_path / "x", mirrors=mirrors),
        "s3:// mirrors",
    )
    assert not (tmp_path / "x").exists()


def test_a_newer_format_is_refused_and_left_alone(tmp_path):
    place = tmp_path / "store"
    holdfast.open(place).close()
    file = place / "holdfast.json"
    file.chmod(0o644)
    from holdfast.engine.sealed import seal, unseal

    members = unseal(file.read_bytes(), path="holdfast.json")
    file.write_bytes(seal({**members, "format": 99}))
    before = file.read_bytes()
    refused(holdfast.FormatError, lambda: holdfast.open(place), "99")
    refused(holdfast.FormatError, lambda: holdfast.open(place, mode="r"), "99")
    assert file.read_bytes() == before


def test_a_scribbled_store_file_is_refused_with_what_to_do(tmp_path):
    place = tmp_path / "store"
    holdfast.open(place).close()
    file = place / "holdfast.json"
    file.chmod(0o644)
    file.write_text("{}")
    refused(holdfast.HoldfastError, lambda: holdfast.open(place), "holdfast.json")
    file.unlink()
    holdfast.open(place).close()
    assert json.loads(file.read_text())


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"\x00" * 400, b'{"format": 1}', b"[" * 100_000],
    ids=["empty", "no members", "zeros", "one member", "deep"],
)
def test_a_corrupted_manifest_is_set_aside_and_nothing_else_is_lost(filled, content):
    with holdfast.open(filled) as store, store.run("digits", save=when.never()) as run:
        run.attach(model={"w": np.zeros(4)})
        bad = run.save(1).wait()
    manifest = bad.path / "manifest.json"
    manifest.chmod(0o644)
    manifest.write_bytes(content)
    (filled / "catalog.sqlite3").unlink()
    with holdfast.open(filled) as store:
        refused(holdfast.HoldfastError, lambda: store.get(bad.id).load("model"), bad.id)
        assert store.latest("digits").step == 0
        assert store.get(bad.id).info.damaged


# Opens a store as another user and tries to write.
STRANGER = """
import os, sys, tempfile
import numpy
import holdfast
with holdfast.open(tempfile.mkdtemp() + "/store") as store, store.run("warm"):
    pass  # everything is imported by now: the interpreter's own files may not be readable below
os.setgid(65534); os.setuid(65534)
try:
    store = holdfast.open(sys.argv[1])
    print("writable", store.writable)
    store.run("digits")
except holdfast.HoldfastError as error:
    print(type(error).__name__, error)
    sys.exit(error.exit_code)
"""


@pytest.fixture
def seen_by_all():
    """A folder that other users may look into and not write to."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
@pytest.mark.parametrize("what", ["a store", "an empty folder", "nothing"])
def test_without_permission_nothing_is_written_and_the_error_says_so(what, filled, seen_by_all):
    place = seen_by_all / "place"
    if what == "a store":
        shutil.copytree(filled, place)
        place.chmod(0o755)
    elif what == "an empty folder":
        place.mkdir(0o755)
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, str(place)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "ConfigError" in done.stdout
    if what == "a store":
        assert "writable False" in done.stdout
        assert "reading only" in done.stdout
    else:
        assert "no permission" in done.stdout
        assert not place.exists() or not list(place.iterdir())


def test_an_error_that_nobody_catches_ends_the_process_with_a_trace(tmp_path):
    code = "import holdfast; holdfast.open('s3://x')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert "ConfigError" in done.stderr
