"""Locks that no forked child keeps, whenever it was forked."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading

import pytest

from holdfast.storage import FileLock, LocalStorage
from holdfast.storage.unshared import close_unshared, open_unshared


@pytest.fixture
def children():
    """Forks children that do nothing, and ends them after the test."""
    forked = []

    def fork():
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
        forked.append(child)
        return child

    yield fork
    for child in forked:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def is_free(path):
    """Whether a flock on a file can be had at once."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_a_child_forked_while_a_file_is_being_opened_keeps_no_lock(tmp_path, children):
    path = tmp_path / "lock"
    path.touch()
    opened = []

    def opening():
        fd = os.open(path, os.O_RDWR)
        opened.append(fd)
        if len(opened) == 1:
            # The moment before the descriptor is known.
            thread = threading.Thread(target=children)
            thread.start()
            thread.join()
        return fd

    fd = open_unshared(opening)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert len(opened) == 2
    # As when the process dies: nobody unlocks.
    os.close(fd)
    assert is_free(path)
    reused = os.open(path, os.O_RDONLY)
    close_unshared(reused)


def test_a_child_forked_while_a_lock_is_held_keeps_nothing_of_it(tmp_path, children):
    lock = FileLock(tmp_path / "lock")
    lock.acquire(timeout_s=0)
    children()
    assert not is_free(tmp_path / "lock")
    lock.release()
    assert is_free(tmp_path / "lock")


def test_a_child_forked_in_the_middle_of_an_append_holds_up_no_later_one(tmp_path, children):
    storage = LocalStorage(tmp_path)
    with storage.appending("journal") as file:
        children()
        file.append(b"one\n", durable=True)
    assert is_free(tmp_path / "journal")
    with storage.appending("journal") as file:
        file.append(b"two\n", durable=False)
    assert (tmp_path / "journal").read_bytes() == b"one\ntwo\n"


def test_an_append_whose_process_dies_holds_up_no_later_one(tmp_path):
    script = """
import os, signal, sys
from pathlib import Path
from holdfast.storage import LocalStorage
with LocalStorage(Path(sys.argv[1])).appending("journal") as file:
    child = os.fork()
    if child == 0:
        print(os.getpid(), flush=True)
    signal.pause()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        child = int(process.stdout.readline())
        try:
            assert not is_free(tmp_path / "journal")
            process.kill()
            process.wait(timeout=60)
            os.kill(child, 0)
            assert is_free(tmp_path / "journal")
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_childs_copy_of_a_lock_leaves_the_files_of_the_child_alone(tmp_path):
    lock = FileLock(tmp_path / "lock")
    lock.acquire(timeout_s=0)
    number = lock._fd
    child = os.fork()
    if child == 0:
        # The number is free in the child, and one of its own files gets it.
        with contextlib.suppress(OSError):
            os.fstat(number)
            os._exit(1)
        os.dup2(os.open(tmp_path / "own", os.O_RDWR | os.O_CREAT), number)
        lock.release()
        with contextlib.suppress(OSError):
            os.write(number, b"x")
            os._exit(0 if not lock.held else 2)
        os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert lock.held
    assert not is_free(tmp_path / "lock")
    lock.release()
