"""Starting the examples as a user does, and ending some of them without warning."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"

# Killing needs many processes, and importing torch takes seconds: they fork from one that has it.
_FORKING = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload(
    ["torch", "torch._dynamo", "holdfast.store", "tests.examples.running"]
)


def run_example(name: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs an example to its end, in one thread, and returns what it printed."""
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


class ForkedExample:
    """An example without arguments in a process that began with its imports done."""

    def __init__(self, name: str, *, cwd: Path) -> None:
        reading, writing = os.pipe()
        with Connection(writing) as output:
            self._process = _FORKING.Process(
                target=_run, args=(str(EXAMPLES / name), str(cwd), output), daemon=True
            )
            self._process.start()
        self._lines = open(reading, encoding="utf-8")  # noqa: PTH123, SIM115 - a descriptor

    def read_lines(self, count: int) -> list[str]:
        """Returns the next lines that it prints; fewer when it ends before."""
        lines = [self._lines.readline() for _ in range(count)]
        return [line for line in lines if line]

    def kill(self, *, after_s: float) -> bool:
        """Sends SIGKILL unless it ends within a time, and waits; returns whether it was killed."""
        self._process.join(after_s)
        self._process.kill()
        return self._end() < 0

    def finish(self) -> tuple[int, list[str]]:
        """Waits for its end; returns its exit code and the lines not read before."""
        lines = self._lines.readlines()
        return self._end(), lines

    def _end(self) -> int:
        self._process.join()
        self._lines.close()
        code = self._process.exitcode
        assert code is not None
        self._process.close()
        return code


def _run(path: str, cwd: str, output: Connection) -> None:
    os.chdir(cwd)
    os.dup2(output.fileno(), 1)
    output.close()
    import torch

    torch.set_num_threads(1)
    runpy.run_path(path, run_name="__main__")
