"""The system calls themselves: each reaches the kernel, with the flags that the layers rely on."""

import os
from pathlib import Path

import pytest

from holdfast.storage import Posix

POSIX = Posix()


@pytest.fixture
def synced(monkeypatch):
    """Returns the names of what was really synced, in order."""
    names = []
    sync = os.fsync

    def note(fd):
        sync(fd)
        names.append(Path(f"/proc/self/fd/{fd}").readlink().name)

    monkeypatch.setattr(os, "fsync", note)
    return names


def test_a_sync_of_a_file_or_a_folder_reaches_the_kernel(tmp_path, synced):
    fd = POSIX.create(str(tmp_path / "file"), 0o600)
    POSIX.fsync(fd)
    POSIX.close(fd)
    POSIX.fsync_folder(str(tmp_path))
    assert synced == ["file", tmp_path.name]


def test_a_file_that_is_there_is_not_created(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        POSIX.create(str(tmp_path / "file"), 0o600)
    assert (tmp_path / "file").read_bytes() == b"old"


def test_what_is_appended_comes_behind_what_another_has_appended_since(tmp_path):
    path = str(tmp_path / "log")
    one, other = POSIX.open_append(path, 0o600), POSIX.open_append(path, 0o600)
    for fd, line in ((one, b"one\n"), (other, b"other\n"), (one, b"again\n")):
        POSIX.write(fd, [line])
    for fd in (one, other):
        POSIX.close(fd)
    assert Path(path).read_bytes() == b"one\nother\nagain\n"


def test_nothing_is_appended_through_a_link(tmp_path):
    (tmp_path / "elsewhere").write_bytes(b"")
    (tmp_path / "log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        POSIX.open_append(str(tmp_path / "log"), 0o600)
