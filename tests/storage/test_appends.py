"""Appends on a local disk: one writer at a time, by a lock that the system keeps."""

import errno
import fcntl

import pytest

from holdfast.errors import SaveError, StorageFullError
from holdfast.storage import LocalStorage
from tests.storage.faulty import failing


def test_whoever_appends_holds_the_files_lock_until_it_is_done(tmp_path):
    storage = LocalStorage(tmp_path)
    (tmp_path / "log").touch()
    with (tmp_path / "log").open("rb") as other:
        with storage.appending("log") as file:
            file.append(b"half", durable=False)
            with pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert storage.read("log") == b"half"


@pytest.mark.parametrize(
    ("call", "code", "error"),
    [
        ("open_append", errno.EACCES, SaveError),
        ("write", errno.ENOSPC, StorageFullError),
        ("fsync", errno.EIO, SaveError),
        ("close", errno.EIO, SaveError),
    ],
)
def test_a_failing_append_is_an_error_and_the_next_one_works(tmp_path, call, code, error):
    storage = LocalStorage(tmp_path, posix=failing(call, code))
    with pytest.raises(error, match="appending to log"), storage.appending("log") as file:
        file.append(b"line\n", durable=True)
    with storage.appending("log") as file:
        file.append(b"next\n", durable=True)
    assert (tmp_path / "log").read_bytes().endswith(b"next\n")
