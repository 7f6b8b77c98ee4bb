"""A medium that is really full: earlier files stay readable, and nothing half-written remains."""

import pytest

from holdfast.errors import StorageFullError
from holdfast.storage import LocalStorage, probe
from tests import disks
from tests.storage.faulty import names_in

SIZE = 4 << 20


@pytest.fixture
def small_disk(tmp_path):
    with disks.small_disk(tmp_path, "tmpfs", nbytes=SIZE) as folder:
        yield folder


def test_a_full_disk_is_reported_survived_and_usable_again(small_disk):
    storage = LocalStorage(small_disk)
    storage.publish("kept", [b"x" * 5000])
    room = storage.free_nbytes()
    # Both ways: refused beforehand, and met on the way, for small files are not asked about.
    with pytest.raises(StorageFullError) as early:
        storage.publish("large", [bytes(room + 1)])
    assert early.value.needed == room + 1
    disks.fill(small_disk)
    assert storage.free_nbytes() == 0
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
    disks.fill(small_disk)
    storage = LocalStorage(small_disk)
    assert probe(small_disk).hard_links
    lock = storage.lock("lock")
    lock.acquire(timeout_s=0)
    assert storage.lock("lock").busy()
    lock.release()
