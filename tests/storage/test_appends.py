"""Appends: one writer at a time, whatever process it is in, and durable when it says so."""

import errno
import fcntl
import subprocess
import sys

import pytest

from holdfast.errors import SaveError, StorageFullError
from holdfast.storage import LocalStorage
from tests.storage.faulty import Recorder, failing

WRITER = """
import sys
from pathlib import Path
from holdfast.storage import LocalStorage
storage = LocalStorage(Path(sys.argv[1]))
for number in range(150):
    with storage.appending("log") as file:
        # Two pieces, with what others would do in between.
        file.append(f"{sys.argv[2]} {number} ".encode(), durable=False)
        file.append(b"x" * (number % 7) + b"\\n", durable=False)
"""


def test_appends_of_several_processes_never_mix(tmp_path):
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name]) for name in "abcd"
    ]
    assert [writer.wait() for writer in writers] == [0] * 4
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 600
    for name in "abcd":
        own = [line for line in lines if line.startswith(f"{name} ")]
        assert own == [f"{name} {n} {'x' * (n % 7)}" for n in range(150)]


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


def test_an_append_shows_the_tail_that_it_continues(tmp_path):
    storage = LocalStorage(tmp_path)
    with storage.appending("log") as file:
        assert (file.nbytes, file.tail(4)) == (0, b"")
        file.append(b"0123456789", durable=True)
        assert (file.nbytes, file.tail(4), file.tail(100)) == (10, b"6789", b"0123456789")


@pytest.mark.parametrize("durable", [True, False])
def test_a_durable_append_is_synced_before_it_returns(tmp_path, durable):
    recorder = Recorder()
    with LocalStorage(tmp_path, posix=recorder.posix).appending("log") as file:
        file.append(b"line\n", durable=durable)
        assert recorder.names == ["open_append", "write", *(["fsync"] if durable else [])]
    assert recorder.names[-1] == "close"


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
