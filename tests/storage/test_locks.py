"""Locks: one holder, who is named, and who takes the lock along when it dies."""

import os
import re
import signal
import subprocess
import sys

import pytest

from holdfast.errors import HoldfastError, LockedError, SaveError
from holdfast.storage import FileLock

HOLDER = """
import sys
from pathlib import Path
from holdfast.storage import FileLock
lock = FileLock(Path(sys.argv[1]))
lock.acquire(timeout_s=0)
print("held", flush=True)
{then}
sys.stdin.read()
"""
FORK = """
import os
if os.fork() == 0:
    print("child", lock.held, flush=True)
    sys.stdin.read()
    os._exit(0)
"""


@pytest.fixture
def start():
    """Starts processes that take the lock, and ends them after the test."""
    started = []

    def run(path, then=""):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER.format(then=then), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield run
    for process in started:
        process.stdin.close()
        process.stdout.close()
        process.kill()
        process.wait()


def test_the_second_process_is_told_who_holds_the_lock(tmp_path, start):
    path = tmp_path / "lock"
    holder = start(path)
    lock = FileLock(path)
    with pytest.raises(LockedError) as caught:
        lock.acquire(timeout_s=0)
    assert re.fullmatch(rf"pid {holder.pid} on \S+", caught.value.holder)
    assert caught.value.holder in caught.value.message
    assert caught.value.hint
    assert not lock.held
    assert lock.busy()


def test_a_killed_holder_gives_the_lock_up(tmp_path, start):
    path = tmp_path / "lock"
    holder = start(path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    lock = FileLock(path)
    assert not lock.busy()
    lock.acquire(timeout_s=0)
    assert lock.held
    lock.release()


def test_a_forked_child_does_not_keep_a_dead_parents_lock(tmp_path, start):
    path = tmp_path / "lock"
    holder = start(path, then=FORK)
    assert holder.stdout.readline() == "child False\n"
    lock = FileLock(path)
    assert lock.busy()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    # The child lives on: it waits for the end of the input that this process holds.
    lock.acquire(timeout_s=0)
    lock.release()


def test_a_child_that_goes_away_leaves_the_parents_lock_alone(tmp_path):
    lock = FileLock(tmp_path / "lock")
    lock.acquire(timeout_s=0)
    child = os.fork()
    if child == 0:
        os._exit(1 if lock.held else 0)
    assert os.waitpid(child, 0)[1] == 0
    assert lock.held
    assert FileLock(tmp_path / "lock").busy()
    lock.release()


def test_a_waiting_process_gets_the_lock_when_it_becomes_free(tmp_path, start):
    path = tmp_path / "lock"
    holder = start(path)
    holder.stdin.close()
    FileLock(path).acquire(timeout_s=60)
    assert holder.wait() == 0


def test_a_second_lock_object_of_one_process_is_told_at_once(tmp_path):
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    first.acquire(timeout_s=0)
    with pytest.raises(LockedError, match="in this process"):
        second.acquire(timeout_s=1000)
    first.release()
    second.acquire(timeout_s=0)
    assert (first.held, second.held) == (False, True)
    second.release()
    second.release()
    assert not second.busy()


def test_a_lock_file_that_was_deleted_and_made_anew_is_another_lock(tmp_path):
    path = tmp_path / "lock"
    old, new = FileLock(path), FileLock(path)
    old.acquire(timeout_s=0)
    path.unlink()
    new.acquire(timeout_s=0)
    assert new.held
    with pytest.raises(LockedError):
        FileLock(path).acquire(timeout_s=0)
    old.release()
    new.release()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": "x"}', b"\xff" * 20, b"null"])
def test_a_lock_whose_holder_left_no_name_is_a_lock(tmp_path, content):
    path = tmp_path / "lock"
    lock = FileLock(path)
    lock.acquire(timeout_s=0)
    path.write_bytes(content)
    with pytest.raises(LockedError) as caught:
        FileLock(path).acquire(timeout_s=0)
    assert caught.value.holder == "a process that left no name"
    lock.release()


def test_a_lock_that_cannot_be_opened_says_why(tmp_path):
    with pytest.raises(SaveError, match="nowhere is not there"):
        FileLock(tmp_path / "nowhere" / "lock").acquire(timeout_s=0)
    assert not FileLock(tmp_path / "nowhere" / "lock").busy()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("ask", ["acquire", "busy"])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_stands_in_a_locks_place_is_refused_and_never_waited_for(tmp_path, ask, kind):
    path = tmp_path / "lock"
    if kind == "link":
        (tmp_path / "elsewhere").write_text("untouched")
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    lock = FileLock(path)
    with pytest.raises(HoldfastError, match="lock"):
        lock.busy() if ask == "busy" else lock.acquire(timeout_s=0)
    assert not lock.held
    if kind == "link":
        assert (tmp_path / "elsewhere").read_text() == "untouched"
