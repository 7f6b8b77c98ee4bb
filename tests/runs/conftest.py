"""What the tests of runs start from."""

import logging
import shutil
import tempfile
from pathlib import Path

import pytest

import holdfast


@pytest.fixture
def place(tmp_path):
    """A folder for a store; in memory where that can be, for these tests are about rules."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        yield tmp_path / "store"
        return
    folder = tempfile.mkdtemp(prefix="holdfast-", dir=memory)
    yield Path(folder) / "store"
    shutil.rmtree(folder)


@pytest.fixture
def store(place):
    with holdfast.open(place) as opened:
        yield opened


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, logger="holdfast")
    return caplog
