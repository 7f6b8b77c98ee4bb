"""A real store with two short runs, made through the public API; commands run on copies of it."""

import fcntl
import json
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import holdfast
from holdfast import keep, when
from holdfast.cli.app import app

#: Colours and movements of the cursor (ECMA-48, control sequences).
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
RUNS = ("digits-cnn", "study/trial-7")


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def data(self):
        return json.loads(self.out)


def train(store, name, steps):
    """Makes a run whose loss falls and rises, with a tensor that never changes."""
    state = {"w": np.zeros((20, 20), "f4"), "frozen": np.ones((50, 50), "f4")}
    with store.run(
        name,
        metric="val_loss",
        save=when.improved() | when.every(steps=5),
        keep=keep.best(2).items("model") | keep.latest(2),
        config={"lr": 3e-4, "net": {"depth": 4}},
    ) as run:
        run.attach(model=state, optimizer={"m": np.zeros((20, 20), "f4")})
        for step in range(steps):
            state["w"] += 0.5
            loss = abs(step - 6) / 10 + 0.1
            run.step(step, {"val_loss": loss, "eval": {"accuracy": 1 - loss / 2}})


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    """A store that no test may change."""
    root = tmp_path_factory.mktemp("original") / "store"
    with holdfast.open(root) as store:
        for name, steps in zip(RUNS, (12, 7), strict=True):
            train(store, name, steps)
    return root


@pytest.fixture
def root(original, tmp_path):
    """A copy of it, to be changed at will; names of one file stay names of one file."""
    copies = {}

    def copy(source, target):
        inode = Path(source).stat().st_ino
        if inode in copies:
            os.link(copies[inode], target)
        else:
            copies[inode] = shutil.copy2(source, target)
        return target

    return Path(shutil.copytree(original, tmp_path / "store", copy_function=copy))


@pytest.fixture
def ask(monkeypatch):
    """Runs a command within this process."""
    for variable in ("HOLDFAST_STORE", "HOLDFAST_CATALOG", "FORCE_COLOR"):
        monkeypatch.delenv(variable, raising=False)

    def run(store, *arguments):
        where = ("--store", str(store)) if store is not None else ()
        result = CliRunner().invoke(app, [*where, *map(str, arguments)], prog_name="holdfast")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Answer(result.exit_code, result.stdout, result.stderr)

    return run


def in_process(*arguments, cwd, **environment):
    """Runs ``python -m holdfast`` as a user does, with pipes for a terminal."""
    answer = subprocess.run(
        [sys.executable, "-m", "holdfast", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )
    return Answer(answer.returncode, answer.stdout, answer.stderr)


def in_terminal(*arguments, columns, typed=b""):
    """Runs ``python -m holdfast`` in a terminal; returns its exit code and the screen's lines."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "1", "PYTHONUTF8": "1"}
    for variable in ("COLUMNS", "LINES", "FORCE_COLOR"):
        environment.pop(variable, None)
    process = subprocess.Popen(
        [sys.executable, "-m", "holdfast", *map(str, arguments)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
    )
    os.close(theirs)
    if typed:
        os.write(ours, typed)
    screen = b""
    while select.select([ours], [], [])[0]:
        try:
            read = os.read(ours, 1 << 16)
        except OSError:
            # The terminal's other side was closed: the process is over.
            break
        screen += read
    os.close(ours)
    text = ESCAPES.sub("", screen.decode().replace("\r\n", "\n"))
    # A carriage return begins the line anew: what a progress bar wrote is gone by then.
    lines = [line.rpartition("\r")[2].rstrip() for line in text.split("\n")]
    return process.wait(), lines
