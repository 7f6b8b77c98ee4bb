"""What a power cut could have left at any moment, by the harshest of models, recovered."""

import tempfile
from pathlib import Path

import pytest

from holdfast.storage import Posix
from holdfast.storage.recording import RecordingPosix
from holdfast.testing.replay import replays
from holdfast.testing.training import Training

LARGE = 140_000


@pytest.fixture
def scratch(tmp_path):
    """A fast place for the states: memory, where there is some."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        yield tmp_path / "states"
        return
    # The name is its own: several processes may run this test at once.
    with tempfile.TemporaryDirectory(dir=memory, prefix="holdfast-") as folder:
        yield Path(folder)


def test_a_training_goes_on_after_power_cuts_of_a_sample(tmp_path, scratch, measured):
    outcome = measured(replays(Training(), tmp_path, scratch=scratch, stride=90))
    assert outcome.states >= 30


@pytest.mark.sweeps
@pytest.mark.parametrize(("changing", "quick"), [(64, 8), (LARGE, 12)], ids=["small", "large"])
def test_a_training_goes_on_after_a_power_cut_at_any_moment(
    tmp_path, scratch, stride, measured, changing, quick
):
    outcome = measured(replays(Training(changing), tmp_path, scratch=scratch, stride=stride(quick)))
    assert outcome.states >= 200
    assert outcome.kinds.keys() >= {"all kept", "all lost", "one lost", "one kept", "torn"}


@pytest.mark.parametrize("call", ["fsync", "fsync_folder"])
def test_a_sync_that_does_nothing_is_noticed(tmp_path, scratch, monkeypatch, call):
    monkeypatch.setattr(RecordingPosix, call, getattr(Posix, call))
    outcome = replays(Training(losses=(2.0,)), tmp_path, scratch=scratch, stride=9)
    assert outcome.violated, outcome
