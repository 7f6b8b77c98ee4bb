"""The row of memory: what a save takes on top of the state, each way in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.measure import Samples, SkippedError, reason
from bench.memory_probe import LIMIT_NBYTES, NAMES, STREAMING
from bench.peers import require
from bench.results import Table, Verdict, size_name
from bench.targets import at_most

_ROOT = Path(__file__).parents[1]
_TIMEOUT_S = 300


def extra_memory(
    folder: Path, *, nbytes: int, tick: Callable[[str], object], names: Sequence[str] = NAMES
) -> list[Table]:
    """Measures each way's peak above the state, in states."""
    ways = []
    for name in names:
        try:
            figures = _probe(name, nbytes, folder)
            peak = max(figures["first"], figures["next"]) / nbytes
            first, later, held = (figures[one] / nbytes for one in ("first", "next", "held"))
            note = f"first save {first:.2f}, next {later:.2f}, held between saves {held:.2f}"
            ways.append(Samples(name, limit=False, values=(peak,), note=note))
        except (SkippedError, RuntimeError, subprocess.TimeoutExpired) as error:
            ways.append(Samples(name, limit=False, values=(), error=reason(error)))
        tick(name)
    table = Table("memory", f"extra memory of a save, {size_name(nbytes)}", "x state", tuple(ways))
    return [Table(table.row, table.title, table.unit, table.ways, _verdicts(table, nbytes))]


def _verdicts(table: Table, nbytes: int) -> tuple[Verdict, ...]:
    streamed = table.median(STREAMING)
    # A state that fits whole is copied whole.
    whole = streamed is None or nbytes <= LIMIT_NBYTES
    megabytes = None if whole else streamed * nbytes / 2**20
    return (
        at_most("1.05 x state", table.median("holdfast"), 1.05, "x state"),
        at_most("a streaming mode within 256 MiB", megabytes, 256.0, "MiB"),
    )


def _probe(name: str, nbytes: int, folder: Path) -> dict[str, float]:
    if name.startswith("Orbax"):
        require("orbax.checkpoint")
    with tempfile.TemporaryDirectory(dir=folder) as inner:
        done = subprocess.run(
            [sys.executable, "-m", "bench.memory_probe", name, str(nbytes), inner],
            capture_output=True,
            text=True,
            cwd=_ROOT,
            timeout=_TIMEOUT_S,
            check=False,
        )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
        raise RuntimeError(lines[-1])
    reply = json.loads(done.stdout.strip().splitlines()[-1])
    if "skipped" in reply:
        raise SkippedError(reply["skipped"])
    return reply["figures"]
