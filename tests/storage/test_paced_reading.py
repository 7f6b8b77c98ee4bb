"""Reading at a bounded rate: the same bytes, and a page cache that is left as it was."""

import ctypes
import mmap
import os

import pytest

from holdfast.errors import IntegrityError
from holdfast.storage import LocalStorage
from holdfast.storage.openfiles import PacedFile

NBYTES = 3 << 20
PIECE = 512 << 10


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(NBYTES))
    with path.open("rb") as opened:
        os.fsync(opened.fileno())
    return path


def cached_share(path) -> float:
    """The share of a file's pages that are in the page cache; asking changes nothing (mincore)."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    with path.open("rb") as opened:
        address = libc.mmap(
            None, ctypes.c_size_t(NBYTES), mmap.PROT_READ, mmap.MAP_SHARED, opened.fileno(), 0
        )
    pages = (ctypes.c_ubyte * (NBYTES // mmap.PAGESIZE))()
    failed = libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(NBYTES), pages)
    libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(NBYTES))
    assert not failed, os.strerror(ctypes.get_errno())
    return sum(page & 1 for page in pages) / len(pages)


def drop(path) -> None:
    with path.open("rb") as opened:
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(path, pace=lambda _: None) -> bytes:
    data = bytearray(NBYTES)
    with LocalStorage(path.parent).reading(path.name) as opened:
        paced = PacedFile(opened, pace)
        paced.expect(0, NBYTES)
        for at in range(0, NBYTES, PIECE):
            paced.read_into(at, memoryview(data)[at : at + PIECE])
    return bytes(data)


def require_dropping(path) -> None:
    drop(path)
    if cached_share(path) > 0.1:
        pytest.skip("this filesystem does not let pages go on request")


def test_what_was_not_in_the_page_cache_does_not_stay_there(file):
    expected = file.read_bytes()
    require_dropping(file)
    assert read(file) == expected
    assert cached_share(file) < 0.1


def test_what_was_in_the_page_cache_stays_there(file):
    expected = file.read_bytes()
    require_dropping(file)
    assert file.read_bytes() == expected
    assert read(file) == expected
    assert cached_share(file) > 0.9


def test_each_piece_waits_for_its_turn(file):
    taken = []
    assert read(file, taken.append) == file.read_bytes()
    assert taken == [PIECE] * (NBYTES // PIECE)


def test_a_file_that_ends_early_is_damaged_here_too(file):
    with LocalStorage(file.parent).reading(file.name) as opened:
        paced = PacedFile(opened, lambda _: None)
        with pytest.raises(IntegrityError, match="ends at byte"):
            paced.read_into(NBYTES - 8, memoryview(bytearray(16)))
