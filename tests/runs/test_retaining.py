"""The clean-up comes after the save: nobody waits for it, and it fails no save."""

import contextlib
import errno
import json
import logging
import os
import threading

import pytest

import holdfast
from holdfast import keep, when
from holdfast.catalog import Catalog
from holdfast.retaining import Retention
from holdfast.storage.posix import Posix
from tests.runs.media import HangingMedium, in_thread
from tests.runs.samples import attached, manual, on_medium, saved, steps_of


def manifests(store):
    """Returns the steps of the checkpoints that are there on the medium."""
    ids = sorted(path.parent.name for path in store.path.glob("runs/*/*/manifest.json"))
    return [store.get(checkpoint_id).step for checkpoint_id in ids]


@pytest.fixture
def medium(store):
    medium = HangingMedium()
    on_medium(store, medium)
    yield medium
    medium.wake_up()


def test_a_checkpoint_is_there_before_the_clean_up_and_the_run_waits_for_both(store, medium):
    with manual(store, keep=keep.latest(1)) as run:
        saved(run, 0)
        medium.hang_at("unlink")
        checkpoint = run.save(1).wait(60)
        assert medium.waiting.wait(60)
        assert manifests(store) == [0, 1]
        assert checkpoint.load("model")["w"].tolist() == [0.0] * 8
        stats = run.stats()
        assert (stats["saved"], stats["in_flight"]) == (2, True)
        waiting = in_thread(run.wait)
        medium.wake_up()
        assert waiting() is None
        assert manifests(store) == [1]
        assert not run.stats()["in_flight"]


def test_the_next_save_is_copied_while_the_clean_up_goes_on(store, medium):
    with manual(store, keep=keep.latest(1)) as run:
        model = attached(run)
        saved(run, 0)
        medium.hang_at("unlink")
        run.save(1).wait(60)
        assert medium.waiting.wait(60)
        model["w"][:] = 2.0
        pending = run.save(2)
        model["w"][:] = 3.0
        assert not pending.done()
        medium.wake_up()
        assert pending.wait(60).load("model")["w"].tolist() == [2.0] * 8
        run.wait()
        assert manifests(store) == [2]


class StuckFiles(Posix):
    """A medium on which nothing can be deleted."""

    def unlink(self, path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_failing_clean_up_fails_no_save_and_is_tried_again(store, log):
    with manual(store, keep=keep.latest(1)) as run:
        saved(run, 0)
        on_medium(store, StuckFiles())
        assert saved(run, 1).step == 1
        assert manifests(store) == [0, 1]
        stats = run.stats()
        assert (stats["saved"], stats["failed"], stats["last_error"]) == (2, 0, None)
        (error,) = [r.getMessage() for r in log.records if r.levelno == logging.ERROR]
        assert "the clean-up of run failed and is tried again later" in error
        on_medium(store, Posix())
        saved(run, 2)
        assert manifests(store) == [2]


def test_a_defect_in_the_clean_up_ends_no_run(store, log, monkeypatch):
    def break_down(self, *, finished=False, lags=False):
        raise ZeroDivisionError("a defect")

    with manual(store, keep=keep.latest(1)) as run:
        with monkeypatch.context() as broken:
            broken.setattr(Retention, "apply", break_down)
            saved(run, 0)
            saved(run, 1)
        assert "what follows a save failed" in log.text
        assert "a defect" in log.text
        saved(run, 2)
        assert steps_of(run) == [2]


@contextlib.contextmanager
def no_room(self):
    raise holdfast.StorageFullError("no room for the catalog", hint="free some space")
    yield


def steps_on_disk(store):
    found = store.path.glob("runs/*/*/manifest.json")
    return sorted(json.loads(path.read_text())["step"] for path in found)


def test_a_clean_up_goes_by_the_files_while_the_catalog_has_no_room(store, monkeypatch):
    with manual(store, metric="loss", keep=keep.best(1)) as run:
        saved(run, 0, {"loss": 2.0})
        with monkeypatch.context() as full:
            full.setattr(Catalog, "transaction", no_room)
            for step, loss, left in ((1, 1.0, [1]), (2, 3.0, [1, 2]), (3, 4.0, [1, 3])):
                run.save(step, {"loss": loss}).wait()
                run.wait()
                # What the catalog still lists, and what it misses, is not judged by.
                assert steps_on_disk(store) == left
        saved(run, 4, {"loss": 5.0})
        assert manifests(store) == [1, 4]
        assert [c.step for c in run.checkpoints()] == [4, 1]


def test_the_catalog_heals_between_saves_when_there_is_room_again(store, monkeypatch):
    healed = threading.Event()
    real = Retention.catch_up

    def catch_up(self, *, lags):
        done = real(self, lags=lags)
        if done and lags:
            healed.set()
        return done

    monkeypatch.setattr(Retention, "catch_up", catch_up)
    with manual(store, keep=keep.latest(1)) as run:
        saved(run, 0)
        with monkeypatch.context() as full:
            full.setattr(Catalog, "transaction", no_room)
            run.save(1).wait()
            run.wait()
            assert [c.step for c in run.checkpoints()] == [0]
        assert healed.wait(60)
        assert [c.step for c in run.checkpoints()] == [1]


def test_nothing_is_cleaned_up_after_a_save_that_failed(store):
    class Full(Posix):
        def write(self, fd, parts):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(holdfast.StorageFullError), manual(store, keep=keep.latest(1)) as run:  # noqa: PT012
        checkpoint = saved(run, 0)
        on_medium(store, Full())
        with pytest.raises(holdfast.StorageFullError):
            run.save(1).wait(60)
        run.wait()
        on_medium(store, Posix())
        assert run.checkpoints() == [checkpoint]


def test_a_clean_up_sees_a_metric_that_was_reported_meanwhile(store, medium):
    with store.run("run", metric="loss", save=when.never(), keep=keep.best(1)) as run:
        attached(run)
        first = saved(run, 0, {"loss": 2.0})
        saved(run, 1, {"loss": 1.0})
        saved(run, 2, {"loss": 3.0})
        assert steps_of(run) == [1, 2]
        run.report(2, loss=0.5)
        saved(run, 3, {"loss": 4.0})
        assert steps_of(run) == [2, 3]
        assert first.id not in [c.id for c in run.checkpoints()]
