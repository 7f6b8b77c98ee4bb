"""Files that are open: reads at offsets, into one buffer or several."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import IntegrityError
from holdfast.storage import LocalStorage
from holdfast.storage.openfiles import _HINT_NBYTES

CONTENT = bytes(range(256)) * 4


@pytest.fixture
def storage(tmp_path):
    (tmp_path / "a").write_bytes(CONTENT)
    return LocalStorage(tmp_path)


@pytest.mark.parametrize("most", [1, 3, 100, 10_000])
@settings(max_examples=20)
@given(
    lengths=st.lists(st.sampled_from([0, 1, 2, 99, 300]), max_size=3), offset=st.integers(0, 100)
)
def test_reads_that_end_early_go_on(tmp_path_factory, most, lengths, offset):
    folder = tmp_path_factory.mktemp("early")
    (folder / "a").write_bytes(CONTENT)
    original = os.preadv

    def short(fd, buffers, at):
        room, some = most, []
        for buffer in buffers:
            some.append(buffer[:room])
            room -= len(some[-1])
        return original(fd, some, at)

    buffers = [memoryview(bytearray(length)) for length in lengths]
    with pytest.MonkeyPatch.context() as patch, LocalStorage(folder).reading("a") as file:
        patch.setattr(os, "preadv", short)
        file.read_into_each(offset, buffers)
    assert b"".join(buffers) == CONTENT[offset : offset + sum(lengths)]


def test_the_end_of_the_file_is_an_error_that_says_where(storage):
    buffers = [memoryview(bytearray(4)), memoryview(bytearray(4))]
    with storage.reading("a") as file, pytest.raises(IntegrityError, match="ends at byte 1024"):
        file.read_into_each(1020, buffers)


def test_a_medium_that_fails_is_an_error_that_names_the_file(storage, monkeypatch):
    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", fail)
    with (
        storage.reading("a") as file,
        pytest.raises(IntegrityError, match="a cannot be read at byte 7: Input/output error"),
    ):
        file.read_into(7, memoryview(bytearray(1)))


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system takes no hints")
def test_hints_cover_what_is_expected_and_may_be_refused(storage, monkeypatch):
    hints = []

    def refuse(fd, begin, length, advice):
        hints.append((begin, length))
        raise OSError(29, "Illegal seek")

    monkeypatch.setattr(os, "posix_fadvise", refuse)
    with storage.reading("a") as file:
        file.expect(10, 2 * _HINT_NBYTES + 5)
        file.expect(7, 0)
    assert hints == [
        (10, _HINT_NBYTES), (10 + _HINT_NBYTES, _HINT_NBYTES), (10 + 2 * _HINT_NBYTES, 5),
    ]  # fmt: skip
