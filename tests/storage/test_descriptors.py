"""A process without a free descriptor is told so, in an error of ours, and nothing is given up."""

import contextlib
import errno
import os
import resource

import numpy as np
import pytest

import holdfast
from holdfast import keep, placing, when
from holdfast.engine import discard
from holdfast.storage import LocalStorage
from holdfast.storage.survey import survey


@contextlib.contextmanager
def no_descriptor():
    """Lets this process open nothing more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


ASKED = {
    "names": lambda storage: storage.names("runs"),
    "folders": lambda storage: storage.folders("runs"),
    "survey": lambda storage: survey(storage, "runs", "journal.jsonl"),
    "lock": lambda storage: storage.lock("runs/lock").busy(),
}


@pytest.mark.parametrize("asked", ASKED)
def test_what_cannot_be_looked_at_now_is_not_taken_as_missing(tmp_path, asked):
    storage = LocalStorage(tmp_path)
    storage.make_folder("runs")
    (tmp_path / "runs" / "lock").touch()
    with no_descriptor(), pytest.raises(holdfast.HoldfastError, match="Too many open files"):
        ASKED[asked](storage)


def test_a_folder_that_the_medium_cannot_list_is_an_integrity_error(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(holdfast.IntegrityError, match="the medium is failing"):
        LocalStorage(tmp_path).names("runs")


@pytest.mark.parametrize(
    ("code", "kind"), [(errno.EIO, holdfast.SaveError), (errno.EDQUOT, holdfast.StorageFullError)]
)
def test_a_store_that_cannot_be_tried_out_is_not_opened(tmp_path, monkeypatch, code, kind):
    def fail(_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(placing, "probe", fail)
    with pytest.raises(kind, match="trying out the store failed"):
        holdfast.open(tmp_path / "store")


def test_a_deletion_without_descriptors_is_put_off_and_leaves_no_shard_behind(tmp_path):
    state = {"w": np.zeros(1000)}
    with (
        holdfast.open(tmp_path) as store,
        store.run("r", save=when.never(), keep=keep.all()) as run,
    ):
        run.attach(model=state)
        saved = run.save(0).wait()
        storage = LocalStorage(tmp_path)
        folder = f"runs/r/{saved.id}"
        files = [name for name in storage.names(folder) if name.endswith(".safetensors")]
        with no_descriptor(), pytest.raises(holdfast.HoldfastError, match="Too many open files"):
            # Taken as no shard, its name under shards/ would stay when the file goes.
            discard.shard_of(storage, f"{folder}/{files[0]}")
        discard.remove_files(storage, folder, files)
    assert list((tmp_path / "shards").rglob("*.safetensors")) == []
