"""What another process indexes while work is under way, and what comes of it after a kill."""

import shutil

import numpy as np
import pytest

import holdfast
from holdfast import keep, when
from holdfast.engine.journal import Journal
from holdfast.storage import LocalStorage

RUN = "digits"


class Value:
    def __init__(self):
        self.value = {"w": np.arange(3.0)}

    def state_dict(self):
        return self.value

    def load_state_dict(self, value):
        self.value = value


@pytest.fixture
def root(tmp_path):
    """A store with two checkpoints of two items each."""
    with (
        holdfast.open(tmp_path / "store") as store,
        store.run(RUN, save=when.never(), keep=keep.all()) as run,
    ):
        run.attach(model=Value(), extra=Value())
        for step in range(2):
            run.save(step).wait()
    return tmp_path / "store"


def ids(root):
    with holdfast.open(root) as store:
        return sorted(checkpoint.id for checkpoint in store.checkpoints())


def index(root):
    with holdfast.open(root) as store:
        store.reindex()


def test_a_save_that_was_under_way_at_a_reindex_is_found_when_its_writer_died(root, tmp_path):
    both = ids(root)
    folder = root / "runs" / RUN / both[1]
    manifest = shutil.move(folder / "manifest.json", tmp_path / "manifest.json")
    index(root)
    assert ids(root) == both[:1]
    # Publishing the manifest changes neither the journal nor the run's folder.
    shutil.move(manifest, folder / "manifest.json")
    assert ids(root) == both


def test_a_clean_up_that_was_open_at_a_reindex_is_followed_when_its_process_died(root):
    both = ids(root)
    journal = Journal(LocalStorage(root), f"runs/{RUN}/journal.jsonl")
    plan = {"t": "plan", "at": 1.0, "deleted": both[:1], "thinned": {}, "reasons": {}}
    journal.append([plan], durable=True)
    index(root)
    assert ids(root) == both
    (root / "runs" / RUN / both[0] / "manifest.json").unlink()
    assert ids(root) == both[1:]
