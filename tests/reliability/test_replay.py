"""What a power cut could have left at any moment, by the harshest of models, recovered."""

import tempfile
from pathlib import Path

import pytest

from holdfast.storage import Posix
from holdfast.storage.recording import RecordingPosix
from holdfast.testing.replay import replays
from holdfast.testing.scenarios import SCENARIOS
from holdfast.testing.training import Training

#: Every how many operations are the last, and how many states that gives at least.
STRIDES = {
    "training": (12, 150),
    "training, large": (25, 100),
    "recovery": (30, 50),
    "prune": (10, 50),
    "delete": (10, 50),
    "repair": (8, 25),
    "late words": (1, 10),
    "import": (2, 15),
    "mirror": (9, 30),
    "heal": (12, 15),
}


@pytest.fixture
def scratch(tmp_path):
    """A fast place for the states: memory, where there is some."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        yield tmp_path / "states"
        return
    with tempfile.TemporaryDirectory(prefix="holdfast-", dir=memory) as folder:
        yield Path(folder)


def test_a_training_goes_on_after_power_cuts_of_a_sample(tmp_path, scratch, measured):
    outcome = measured(replays(Training(), tmp_path, scratch=scratch, stride=90))
    assert outcome.states >= 30


@pytest.mark.sweeps
@pytest.mark.parametrize("name", STRIDES)
def test_work_goes_on_after_a_power_cut_at_any_moment(tmp_path, scratch, stride, measured, name):
    quick, least = STRIDES[name]
    outcome = measured(replays(SCENARIOS[name](), tmp_path, scratch=scratch, stride=stride(quick)))
    assert outcome.states >= least


def test_every_scenario_that_changes_files_is_replayed():
    # Reindexing writes to the catalog alone, which is SQLite's to keep whole.
    assert STRIDES.keys() == {name for name in SCENARIOS if "reindex" not in name}


@pytest.mark.parametrize("call", ["fsync", "fsync_folder"])
def test_a_sync_that_does_nothing_is_noticed(tmp_path, scratch, monkeypatch, call):
    monkeypatch.setattr(RecordingPosix, call, getattr(Posix, call))
    outcome = replays(Training(losses=(2.0,)), tmp_path, scratch=scratch, stride=9)
    assert outcome.violated, outcome
