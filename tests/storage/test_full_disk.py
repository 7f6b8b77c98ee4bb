"""A medium that is really full: earlier files stay readable, and nothing half-written remains."""

import contextlib
import ctypes
import os

import pytest

from holdfast.errors import StorageFullError
from holdfast.storage import LocalStorage, probe
from tests.storage.faulty import names_in

SIZE = 4 << 20


@pytest.fixture
def small_disk(tmp_path):
    """Returns a folder on a filesystem of 4 MiB."""
    libc = ctypes.CDLL(None, use_errno=True)
    folder = tmp_path / "disk"
    folder.mkdir()
    if libc.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, f"size={SIZE}".encode()) != 0:
        pytest.skip(f"no permission to mount: {os.strerror(ctypes.get_errno())}")
    yield folder
    libc.umount2(bytes(folder), 2)


def fill(folder):
    """Writes until the filesystem takes no more."""
    with (folder / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    assert LocalStorage(folder).free_nbytes() == 0


def test_a_full_disk_is_reported_survived_and_usable_again(small_disk):
    storage = LocalStorage(small_disk)
    storage.publish("kept", [b"x" * 5000])
    room = storage.free_nbytes()
    # Both ways: refused beforehand, and met on the way, for small files are not asked about.
    with pytest.raises(StorageFullError) as early:
        storage.publish("large", [bytes(room + 1)])
    assert early.value.needed == room + 1
    fill(small_disk)
    with pytest.raises(StorageFullError) as late:
        storage.publish("small", [bytes(100_000)])
    assert (late.value.needed, late.value.free) == (100_000, 0)
    assert late.value.hint
    assert names_in(small_disk) == ["ballast", "kept"]
    assert storage.read("kept") == b"x" * 5000
    with pytest.raises(StorageFullError), storage.appending("journal") as file:
        file.append(bytes(10_000), durable=True)
    (small_disk / "ballast").unlink()
    assert storage.publish("small", [bytes(100_000)]) == 100_000


def test_a_full_disk_can_still_be_probed_and_locked(small_disk):
    fill(small_disk)
    storage = LocalStorage(small_disk)
    assert probe(small_disk).hard_links
    lock = storage.lock("lock")
    lock.acquire(timeout_s=0)
    assert storage.lock("lock").busy()
    lock.release()
