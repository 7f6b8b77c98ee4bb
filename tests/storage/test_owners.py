"""Who holds a lock, since when, and whether that process can go on."""

import os
import signal
import subprocess
import sys

import pytest

from holdfast.errors import LockedError
from holdfast.storage import FileLock
from holdfast.storage.owners import Owner, describe, explain

HOLDER = """
import sys
from pathlib import Path
from holdfast.storage import FileLock
lock = FileLock(Path(sys.argv[1]))
lock.acquire(timeout_s=0)
print("held", flush=True)
sys.stdin.read()
lock.release()
print("released", flush=True)
"""


@pytest.fixture
def holder(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def refusal(path):
    with pytest.raises(LockedError) as caught:
        FileLock(path).acquire(timeout_s=0)
    return caught.value


def test_a_stopped_holder_is_told_as_stopped_and_goes_on_unharmed(tmp_path, holder):
    path = tmp_path / "lock"
    assert "that process is stopped" not in refusal(path).message
    holder.send_signal(signal.SIGSTOP)
    # Until the kernel has stopped it.
    os.waitid(os.P_PID, holder.pid, os.WSTOPPED | os.WNOWAIT)
    error = refusal(path)
    assert "that process is stopped" in error.message
    assert f"kill -CONT {holder.pid}" in error.hint
    assert error.holder.startswith(f"pid {holder.pid} on ")
    holder.send_signal(signal.SIGCONT)
    holder.stdin.close()
    assert holder.stdout.readline() == "released\n"
    lock = FileLock(path)
    lock.acquire(timeout_s=0)
    assert lock.predecessor.pid == holder.pid
    lock.release()


def test_a_waiting_process_says_at_once_whom_it_waits_for(tmp_path, holder, caplog):
    with caplog.at_level("INFO", "holdfast"), pytest.raises(LockedError):
        FileLock(tmp_path / "lock").acquire(timeout_s=0.2)
    (line,) = [r.getMessage() for r in caplog.records if "waiting 0.2 s" in r.getMessage()]
    assert f"pid {holder.pid} on " in line
    assert " since 20" in line


def test_a_store_reached_by_two_paths_is_told_at_once_that_it_is_open_here(tmp_path):
    place = tmp_path / "store"
    place.mkdir()
    (tmp_path / "alias").symlink_to(place)
    first, second = FileLock(place / "lock"), FileLock(tmp_path / "alias" / "lock")
    first.acquire(timeout_s=0)
    with pytest.raises(LockedError, match="in this process"):
        second.acquire(timeout_s=1000)
    assert second.busy()
    first.release()
    second.acquire(timeout_s=0)
    second.release()


def test_a_file_whose_name_was_given_to_another_is_another_lock(tmp_path):
    one, two = FileLock(tmp_path / "one"), FileLock(tmp_path / "two")
    one.acquire(timeout_s=0)
    two.acquire(timeout_s=0)
    assert one.held
    assert two.held
    one.release()
    two.release()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"pid": 7, "host": "a", "since": 0}', "pid 7 on a"),
        (b'{"pid": 7, "host": "' + b"a" * 99 + b'", "since": 0}', "pid 7 on " + "a" * 64),
        (b'{"pid": 7, "host": "a"}', "a process that left no name"),
        (b'{"pid": 7, "host": "a", "since": 1e300}', "a process that left no name"),
        (b'{"pid": 7, "host": "a", "since": NaN}', "a process that left no name"),
        (b"[]", "a process that left no name"),
        (b"", "a process that left no name"),
    ],
)
def test_what_a_lock_says_of_its_owner_is_read_with_care(content, said):
    owner = Owner.parse(content)
    assert describe(owner) == said
    assert explain(owner)[0].startswith(said)
    assert owner is None or Owner.parse(owner.encode()) == owner


def test_an_owner_that_is_gone_or_elsewhere_is_told_as_such():
    child = subprocess.Popen(["true"])
    child.wait()
    here = Owner.here()
    gone = Owner(child.pid, here.host, here.since)
    assert (here.state, gone.state) == ("running", "gone")
    assert "which is gone" in explain(gone)[0]
    assert "fuser" in explain(gone)[1]
    assert Owner(1, "elsewhere", 0.0).state == "elsewhere"
