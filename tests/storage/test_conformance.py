"""The local disk keeps what a storage promises: on a disk, in memory, without hard links."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from holdfast.storage import LocalStorage, probe
from holdfast.storage.probe import filesystem_of
from holdfast.testing import StorageConformance
from tests.storage.faulty import without_links

_MEMORY = Path("/dev/shm")


class TestOnDisk(StorageConformance):
    @pytest.fixture
    def storage(self, tmp_path):
        root = tmp_path / "store"
        root.mkdir()
        storage = LocalStorage(root)
        storage.direct = probe(root).direct_alignment > 0
        return storage


class TestInMemory(StorageConformance):
    @pytest.fixture
    def storage(self):
        if not _MEMORY.is_dir() or filesystem_of(_MEMORY) != "tmpfs":
            pytest.skip("/dev/shm is no tmpfs here")
        with tempfile.TemporaryDirectory(dir=_MEMORY) as root:
            yield LocalStorage(Path(root))


class TestWithoutHardLinks(StorageConformance):
    hard_links = False

    @pytest.fixture
    def storage(self, tmp_path):
        root = tmp_path / "store"
        root.mkdir()
        return LocalStorage(root, posix=without_links())

    def through(self, storage, posix):
        return super().through(storage, without_links(posix))


def test_faults_and_recordings_are_had_without_pytest():
    script = (
        "import sys; from holdfast.testing import Fault, FaultyPosix, RecordingPosix; "
        "FaultyPosix(Fault(1)); RecordingPosix(); print('pytest' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
