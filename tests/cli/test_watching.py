"""watch: frames that fit a real terminal, lines of JSON for a pipe, and an end without a fuss."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios

import pytest

import holdfast
from holdfast import when
from tests.cli.conftest import ESCAPES, in_terminal

FRAMES = [("watch", "--once"), ("watch", "digits-cnn", "--once")]
COMMAND = (sys.executable, "-m", "holdfast")


@pytest.mark.parametrize("words", FRAMES, ids=" ".join)
@pytest.mark.parametrize("columns", [46, 140])
def test_a_frame_fits_and_keeps_what_matters(original, words, columns):
    code, lines = in_terminal("-s", original, *words, columns=columns)
    text = "\n".join(lines)
    assert code == 0
    assert max(map(len, lines)) <= columns
    assert "digits-cnn" in text
    assert "interrupted" in text or "finished" in text
    assert "11" in text
    if len(words) == 2:
        assert "RUN" in text
        assert "STEP" in text
        assert ("COURSE" in text) is (columns == 140)
    else:
        assert {"LAST", "WHAT"} <= set(text.split())


def test_a_run_in_detail_tells_why(ask, original):
    answer = ask(original, "watch", "digits-cnn", "--once")
    with holdfast.open(original, mode="r") as store:
        best = store["digits-cnn"].best()
        newest = store["digits-cnn"].checkpoints()
    assert answer.code == 0
    assert f"best val_loss {best.metrics['val_loss']:.4f} at step {best.step}" in answer.out
    assert all(checkpoint.id in answer.out for checkpoint in newest)
    for words in ("deleted", "not among the best 2 by val_loss", "eval/accuracy", "▁"):
        assert words in answer.out


def broken_off(root):
    """Leaves a run behind that ended with an error."""
    with (
        pytest.raises(ZeroDivisionError),
        holdfast.open(root) as store,
        store.run("broken", save=when.never()) as run,
    ):
        run.step(0, loss=1 / 0)


def test_alerts_come_first(ask, root):
    broken_off(root)
    lines = ask(root, "watch", "--once").out.splitlines()
    assert lines[1].startswith("! broken ended with an error: start it again")
    assert lines.index(next(row for row in lines if row.startswith("RUN"))) > 1
    assert ask(root, "watch", "broken", "--once").out.splitlines()[2].startswith("! broken ended")


def test_once_as_json_is_one_line(ask, root):
    broken_off(root)
    answer = ask(root, "watch", "--once", "--json")
    assert answer.out.count("\n") == 1
    assert {run["name"] for run in answer.data["runs"]} == {"digits-cnn", "study/trial-7", "broken"}
    assert [alert["run"] for alert in answer.data["alerts"]] == ["broken"]
    detail = ask(root, "watch", "digits-cnn", "--once", "--json").data
    assert (detail["name"], detail["last_step"]) == ("digits-cnn", 11)
    assert detail["metrics"]["val_loss"]["last"] == pytest.approx(0.6)
    assert detail["decisions"][0]["reason"]


def test_a_mistyped_run_is_an_error_and_not_awaited(ask, original):
    answer = ask(original, "watch", "digits-cn")
    assert answer.code == 3
    assert "did you mean 'digits-cnn'?" in answer.err


@pytest.fixture
def piped(root):
    """Starts ``watch`` with a pipe for a terminal."""
    started = []

    def start(*words):
        process = subprocess.Popen(
            [*COMMAND, "-s", str(root), "watch", "--every", "0.05", *words],
            stdout=subprocess.PIPE,
            text=True,
            # As in a shell: what is not flushed stays in the buffer.
            env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_pipe_gets_a_line_per_change_at_once(root, piped):
    process = piped()
    first = json.loads(process.stdout.readline())
    assert {run["name"] for run in first["runs"]} == {"digits-cnn", "study/trial-7"}
    with holdfast.open(root) as store, store.run("new", save=when.never()) as run:
        run.step(7, loss=1.0)
        run.wait()
        while "new" not in (seen := {r["name"]: r for r in told(process)["runs"]}):
            pass
        while seen["new"]["last_step"] != 7:
            seen = {r["name"]: r for r in told(process)["runs"]}
        assert seen["new"]["status"] == "running"
    root.rename(root.with_name("away"))
    while "problem" not in (line := told(process)):
        pass
    assert "no store" in line["problem"]
    root.with_name("away").rename(root)
    assert {run["name"] for run in told(process)["runs"]} >= {"new", "digits-cnn"}
    process.send_signal(signal.SIGINT)
    assert process.wait() == 0


def told(process):
    return json.loads(process.stdout.readline())


def test_a_reader_that_goes_away_ends_it(root, piped):
    process = piped()
    process.stdout.readline()
    process.stdout.close()
    with holdfast.open(root) as store, store.run("new", save=when.never()) as run:
        run.step(0, loss=1.0)
    assert process.wait() == 141


class Screen:
    """A real terminal with ``watch`` in it."""

    def __init__(self, *words, columns=100, lines=30):
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "1", "PYTHONUTF8": "1"}
        for variable in ("COLUMNS", "LINES", "FORCE_COLOR"):
            environment.pop(variable, None)
        self.process = subprocess.Popen(
            [*COMMAND, *map(str, words)], stdin=theirs, stdout=theirs, stderr=theirs,
            env=environment,
        )  # fmt: skip
        os.close(theirs)
        self.written = b""

    def read(self):
        """Reads what was written since; nothing at its end."""
        select.select([self._ours], [], [])
        try:
            part = os.read(self._ours, 1 << 16)
        except OSError:
            # The terminal's other side was closed: the process is over.
            part = b""
        self.written += part
        return part

    def until(self, words):
        """Reads until some words were written; returns all that was."""
        while words not in self.text:
            assert self.read(), self.text
        return self.text

    @property
    def text(self):
        return ESCAPES.sub("", self.written.decode(errors="replace"))

    def end(self, number=signal.SIGINT):
        self.process.send_signal(number)
        while self.read():
            pass
        os.close(self._ours)
        return self.process.wait()


def test_a_terminal_shows_what_happens_until_ctrl_c(root):
    screen = Screen("-s", root, "watch", "--every", "0.05")
    screen.until("digits-cnn")
    with holdfast.open(root) as store, store.run("new-run", save=when.never()) as run:
        run.step(7, loss=1.0)
        run.wait()
        screen.until("new-run")
    root.rename(root.with_name("away"))
    screen.until("! ")
    root.with_name("away").rename(root)
    assert screen.end() == 0
    assert "Traceback" not in screen.text
    # The cursor is there again (DECTCEM).
    assert screen.written.rindex(b"\x1b[?25h") > screen.written.rindex(b"\x1b[?25l")


def test_a_terminate_signal_leaves_the_terminal_as_it_was(root):
    screen = Screen("-s", root, "watch", "digits-cnn", "--every", "0.05")
    screen.until("DECIDED")
    assert screen.end(signal.SIGTERM) == 143
    assert screen.written.rindex(b"\x1b[?25h") > screen.written.rindex(b"\x1b[?25l")


def test_a_low_terminal_shows_the_first_runs_and_how_many_more(root):
    with holdfast.open(root) as store:
        for place in range(12):
            with store.run(f"run-{place:02}", save=when.never()) as run:
                run.step(0, loss=1.0)
    screen = Screen("-s", root, "watch", "--every", "0.05", lines=14)
    shown = screen.until(" more")
    assert screen.end() == 0
    assert shown.count("run-") < 12
    assert "14 runs" in shown
