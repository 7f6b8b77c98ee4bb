"""`python -m bench`: tables of medians, spread and ratios to the first way of each case."""

from __future__ import annotations

import argparse
import platform
import tempfile
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from bench import cases
from bench.measure import Timing, interleave
from holdfast import __version__

_MB = 1_000_000


def main() -> None:
    """Measures, and says what was measured on what."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a quick pass, for correctness only")
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    arguments = parser.parse_args()
    sizes = [1 * _MB] if arguments.tiny else [10 * _MB, 200 * _MB, 1000 * _MB]
    repeats = 2 if arguments.tiny else 7
    console = Console()
    console.print(
        f"holdfast {__version__}, torch {torch.__version__}, Python {platform.python_version()}, "
        f"{platform.machine()}, {torch.get_num_threads()} threads"
    )
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="holdfast-bench-") as name:
        folder = Path(name)
        for nbytes in sizes:
            state = cases.make_state(nbytes, 200)
            durable, blocked, clean_up = cases.saving(folder, cases.Changing(state))
            title = f"{nbytes / _MB:.0f} MB in 200 tensors"
            show(console, f"until durable, {title}", interleave(durable, repeats=repeats))
            show(console, f"training blocked, {title}", interleave(blocked, repeats=repeats))
            clean_up()
            ways, clean_up = cases.restoring(folder, state)
            show(console, f"restore, warm cache, {title}", interleave(ways, repeats=repeats))
            clean_up()
        calls = 200 if arguments.tiny else 20_000
        console.print(f"step() that does not save: {cases.deciding(folder, calls=calls):.1f} µs")
        size = _MB if arguments.tiny else 50 * _MB
        stored = cases.frozen(folder, nbytes=size, checkpoints=10)
        console.print(f"10 checkpoints of a model with 90% frozen: {stored:.2f} states stored")
    console.print(f"import holdfast: {cases.importing(repeats=repeats):.0f} ms")
    console.print("not measured: cold cache, CUDA, DCP, Orbax, many small tensors, a large catalog")


def show(console: Console, title: str, timings: dict[str, Timing]) -> None:
    """Prints a case."""
    first = next(iter(timings.values())).median
    table = Table(title=title, title_justify="left")
    table.add_column("way")
    for column in ("median ms", "min", "max", "ratio"):
        table.add_column(column, justify="right")
    for name, timing in timings.items():
        low, high = timing.spread
        table.add_row(
            name,
            *(f"{seconds * 1e3:.1f}" for seconds in (timing.median, low, high)),
            f"{timing.median / first:.2f}",
        )
    console.print(table)


if __name__ == "__main__":
    main()
