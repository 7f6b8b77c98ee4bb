"""`holdfast certify`: what it prints, what it leaves behind, how it ends."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from holdfast.testing import certifying
from holdfast.testing.outcome import Outcome
from tests.cli.conftest import in_terminal

SHORT = (
    certifying._Step("killed at each call", "kills", "late words", 8),
    certifying._Step("power cuts, replayed", "replays", "late words", 8),
)


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(certifying, "_STEPS", SHORT)


def test_a_certificate_says_where_it_was_made_and_what_was_explored(ask, tmp_path, short):
    answer = ask(None, "certify", str(tmp_path), "--quick")
    assert answer.code == 0, answer.err
    for word in ("kernel", "filesystem", "killed at each call", "0 violations"):
        assert word in answer.out
    assert list(tmp_path.iterdir()) == []


def test_a_certificate_can_be_read_by_programs(ask, tmp_path, short):
    answer = ask(None, "certify", str(tmp_path), "--quick", "--json")
    found = answer.data
    assert found["ok"] is True
    assert (found["quick"], found["violations"]) == (True, 0)
    assert found["states"] == sum(part["states"] for part in found["parts"]) > 5
    assert found["surroundings"]["mount_options"]


def test_a_broken_promise_is_told_and_the_exit_is_not_0(ask, tmp_path, monkeypatch, short):
    broken = Outcome("kill", "training", 5, {"fsync": 5}, ("fsync: step 3 is gone",), 1)
    monkeypatch.setattr(certifying, "_run", lambda *_: broken)
    answer = ask(None, "certify", str(tmp_path), "--quick")
    assert answer.code == 1
    assert "step 3 is gone" in answer.out
    assert "2 of 10 states break a promise" in answer.err


def test_a_sweep_that_cannot_be_run_is_an_error_and_no_certificate(
    ask, tmp_path, monkeypatch, short
):
    monkeypatch.setattr(
        certifying, "_STEPS", (certifying._Step("nothing", "kills", "no such scenario", 1),)
    )
    answer = ask(None, "certify", str(tmp_path), "--quick")
    assert answer.code == 1
    assert "no such scenario" in answer.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_what_is_no_folder_is_refused(ask, tmp_path, kind):
    path = tmp_path / "place"
    if kind == "file":
        path.write_text("")
    answer = ask(None, "certify", str(path))
    assert answer.code == 2
    assert "not a folder" in answer.err


def test_a_scratch_folder_of_a_killed_proof_is_removed(ask, tmp_path, short):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = socket.gethostname()
    left = tmp_path / f".holdfast-certify-{host}-{dead.pid}-abc"
    mine = tmp_path / f".holdfast-certify-{host}-{os.getpid()}-abc"
    # Of another host, whose processes have numbers of their own.
    theirs = tmp_path / f".holdfast-certify-{host}-0-{dead.pid}-abc"
    for folder in (left, mine, theirs):
        (folder / "store").mkdir(parents=True)
    assert ask(None, "certify", str(tmp_path), "--quick", "--json").code == 0
    assert sorted(tmp_path.iterdir()) == sorted([mine, theirs])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_end_it_ends_the_sweep_and_leaves_nothing(tmp_path, number):
    process = subprocess.Popen(
        [sys.executable, "-m", "holdfast", "certify", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while not list(tmp_path.glob("*/store/holdfast.json")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate()
    assert process.returncode == 128 + number
    assert list(tmp_path.iterdir()) == []


@pytest.mark.sweeps
def test_this_disk_passes_in_a_terminal(tmp_path):
    code, lines = in_terminal("certify", tmp_path, "--quick", columns=80)
    assert code == 0, "\n".join(lines)
    assert max(map(len, lines)) <= 80
    assert any("0 violations" in line for line in lines)
