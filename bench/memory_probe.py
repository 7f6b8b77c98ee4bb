"""`python -m bench.memory_probe WAY BYTES FOLDER`: the memory that one way of a save takes.

A process of its own for each way. After a save of another, small state has brought in what the way
imports, the kernel's high-water mark of resident memory is reset, and read again after the save.
"""

from __future__ import annotations

import gc
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.measure import SkippedError, Way
from bench.ours import HoldfastSave
from bench.peers.orbax_worker import Saving
from bench.states import State
from bench.ways_save import PEERS, PeerSave

#: What the streaming mode may take.
LIMIT_NBYTES = 256 << 20
STREAMING = "holdfast, memory=256 MiB"
ORBAX = "Orbax AsyncCheckpointer"

OURS: dict[str, dict[str, object]] = {
    "holdfast": {},
    "holdfast, overlapped": {"snapshot": "overlap"},
    STREAMING: {"memory": LIMIT_NBYTES},
}
NAMES = (*OURS, *PEERS, ORBAX)


def prepare(name: str, nbytes: int, folder: Path) -> Callable[[], Way | Saving]:
    """Makes a state, and returns what makes the way that saves it; Orbax makes both at once."""
    if name == ORBAX:
        return lambda: Saving(nbytes, 200, folder / "orbax")
    state = State(nbytes, 200)
    if name in OURS:
        return lambda: HoldfastSave(name, state, folder / "store", **OURS[name])
    return lambda: PeerSave(name, PEERS[name][0](), state, folder / "peer")


def measure(name: str, nbytes: int, folder: Path) -> dict[str, float]:
    """Returns bytes on top of the state: peaks of two saves, and what is held between saves."""
    _save_twice(name, 1 << 20, folder)
    return _save_twice(name, nbytes, folder)


def _save_twice(name: str, nbytes: int, folder: Path) -> dict[str, float]:
    inner = Path(tempfile.mkdtemp(dir=folder))
    make = prepare(name, nbytes, inner)
    gc.collect()
    # Before the way is made: one that readies its memory then has that counted, too.
    before = _status("VmRSS") + (nbytes if name == ORBAX else 0)
    way = make()
    figures: dict[str, float] = {}
    for figure in ("first", "next"):
        _reset_peak()
        way.once()
        figures[figure] = max(0, _status("VmHWM") - before)
    gc.collect()
    figures["held"] = max(0, _status("VmRSS") - before)
    if not isinstance(way, Saving):
        way.close()
    shutil.rmtree(inner)
    return figures


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}")


def main() -> None:
    """Prints the figures as JSON, or why there are none."""
    name, nbytes, folder = sys.argv[1:]
    try:
        shown: dict[str, object] = {"figures": measure(name, int(nbytes), Path(folder))}
    except SkippedError as error:
        shown = {"skipped": str(error)}
    sys.stdout.write("\n" + json.dumps(shown) + "\n")


if __name__ == "__main__":
    main()
