"""The rows of what is called often or first: `step()` that saves nothing, and the import."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import holdfast
from bench.measure import Samples
from bench.results import Table
from bench.targets import at_most
from holdfast import when

_IMPORT = """
import sys, time
began = time.perf_counter()
import holdfast
seconds = time.perf_counter() - began
heavy = {"torch", "jax", "numpy", "sqlalchemy", "lightning"} & set(sys.modules)
print(seconds, ",".join(sorted(heavy)) or "none")
"""


def stepping(folder: Path, *, calls: int, tick: Callable[[str], object]) -> list[Table]:
    """Measures `run.step(step, metrics)` that decides not to save."""
    with (
        tempfile.TemporaryDirectory(dir=folder) as inner,
        holdfast.open(Path(inner) / "store") as store,
        store.run("bench", metric="loss", save=when.improved() | when.every(steps=10**9)) as run,
    ):
        run.step(0, {"loss": 0.0})
        run.wait()
        taken = []
        for step in range(1, calls):
            began = time.perf_counter()
            run.step(step, {"loss": 1.0})
            taken.append((time.perf_counter() - began) * 1e6)
        status = len(store.checkpoints())
    if status != 1:
        raise RuntimeError(f"{status} checkpoints were saved instead of one")
    tick("step")
    way = Samples("run.step()", limit=False, values=tuple(taken))
    table = Table("step", "step() that decides not to save", "µs", (way,))
    verdict = at_most("50 µs at the median", table.median("run.step()"), 50.0, "µs")
    return [Table(table.row, table.title, table.unit, table.ways, (verdict,))]


def importing(*, repeats: int, tick: Callable[[str], object]) -> list[Table]:
    """Measures `import holdfast` in a fresh interpreter, and what comes along with it."""
    taken, heavy = [], ""
    for _ in range(repeats):
        command = [sys.executable, "-c", _IMPORT]
        shown = subprocess.run(command, capture_output=True, check=True, text=True).stdout
        seconds, heavy = shown.split()
        taken.append(float(seconds) * 1e3)
        tick("import")
    way = Samples("import holdfast", limit=False, values=tuple(taken))
    table = Table("import", "import holdfast, in a fresh interpreter", "ms", (way,))
    verdict = at_most("80 ms", table.median("import holdfast"), 80.0, "ms")
    notes = (f"Of torch, jax, numpy, sqlalchemy and lightning it imports: {heavy}.",)
    return [Table(table.row, table.title, table.unit, table.ways, (verdict,), notes=notes)]
