"""Orbax, asked over a pipe for one repeat at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from bench.measure import SkippedError

_ROOT = Path(__file__).parents[2]


class OrbaxWay:
    """One way of a save or a restore, in a process of its own on its own copy of the state."""

    limit = False
    note = "in a process of its own, numpy arrays"

    def __init__(
        self, name: str, role: Literal["save", "restore"], nbytes: int, tensors: int, folder: Path
    ) -> None:
        if not is_installed():
            raise SkippedError("not installed: orbax-checkpoint (`make bench` installs it)")
        self.name = name
        command = [sys.executable, "-m", "bench.peers.orbax_worker", role, str(nbytes)]
        self._process = subprocess.Popen(
            [*command, str(tensors), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=_ROOT,
        )
        self._reply()

    def check(self) -> None:
        self._ask("check")

    def once(self) -> Mapping[str, float]:
        return self._ask("once")

    def close(self) -> None:
        self._process.communicate(timeout=60)

    def _ask(self, what: str) -> Mapping[str, float]:
        assert self._process.stdin is not None
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        return self._reply()

    def _reply(self) -> Mapping[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"its process ended with {self._process.wait()}")
        reply = json.loads(line)
        if "error" in reply:
            raise RuntimeError(reply["error"])
        return reply["figures"]


def is_installed() -> bool:
    """Whether it could be imported."""
    try:
        return find_spec("orbax.checkpoint") is not None
    except (ImportError, ValueError):
        return False
