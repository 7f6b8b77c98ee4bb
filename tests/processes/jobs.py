"""Training scripts that the tests of processes start, stop and kill."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PROLOGUE = """
import os, signal, sys
import numpy as np
import holdfast
from holdfast import keep, when
import logging
logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")

def say(*words):
    print(*words, flush=True)

def hear():
    return sys.stdin.readline().strip()

place = sys.argv[1]
"""


@contextlib.contextmanager
def job(
    code: str, *arguments: object, file: Path | None = None, **environment: str
) -> Iterator[subprocess.Popen]:
    """Starts a script that talks by lines; it is killed if it is still there at the end.

    Args:
        code: The script, behind `PROLOGUE`.
        *arguments: Its arguments; the first one is its store.
        file: Where the script is written to, for one whose workers import it.
        **environment: Set for it, besides what is set here.
    """
    text = PROLOGUE + code
    if file is not None:
        file.write_text(text)
    script = ["-c", text] if file is None else [str(file)]
    process = subprocess.Popen(
        [sys.executable, *script, *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **environment},
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def hear(process: subprocess.Popen) -> str:
    """Returns the next line that a job says; what it complained of if it says none."""
    line = process.stdout.readline()
    if not line:
        raise AssertionError(process.communicate()[1])
    return line.strip()


def tell(process: subprocess.Popen, word: str = "go") -> None:
    """Says a line to a job."""
    process.stdin.write(word + "\n")
    process.stdin.flush()


def leave(process: subprocess.Popen) -> tuple[int, str]:
    """Waits for a job to end; returns its exit code and what it logged."""
    _, log = process.communicate(timeout=60)
    return process.returncode, log
