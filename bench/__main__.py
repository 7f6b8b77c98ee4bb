"""`python -m bench`: every row of docs/performance.md, side by side with the peers."""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bench import machine, plot, report, rows
from bench.measure import SkippedError
from bench.peers import missing
from bench.results import Report, Table, unjudged

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20,
          "GIB": 1 << 30}  # fmt: skip
_DEFAULT = "1MB,10MB,200MB,1GiB"
_FULL = f"{_DEFAULT},4GiB"
_PEERS = {
    "safetensors": "safetensors.torch",
    "orbax-checkpoint": "orbax.checkpoint",
    "torch_checkpointing": "torch_checkpointing",
    "lightning": "lightning.fabric.plugins",
}


def main() -> None:
    """Measures, prints, and writes what it was asked to write."""
    arguments = _arguments()
    console = Console()
    logging.getLogger("holdfast").setLevel(logging.ERROR)
    if arguments.source:
        made = Report.from_json(json.loads(arguments.source.read_text(encoding="utf-8")))
        for table in made.tables:
            report.show(console, table)
    else:
        made = _measured(arguments, console)
    if arguments.json:
        text = json.dumps(made.to_json(), indent=1, ensure_ascii=False)
        arguments.json.write_text(text + "\n", encoding="utf-8")
    if arguments.write:
        _write(made, arguments.write, console)


def _write(made: Report, page: Path, console: Console) -> None:
    picture = page.parent / "pictures" / "performance.svg"
    shown = [f"![Times of each way, by row](pictures/{picture.name})", ""]
    try:
        plot.draw(made, picture)
    except SkippedError as error:
        console.print(f"no picture: {error}", markup=False)
        shown = []
    report.write(made, page, shown)


def _measured(arguments: argparse.Namespace, console: Console) -> Report:
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="holdfast-bench-") as name:
        plan = _plan(arguments, Path(name))
        about = machine.describe(plan.folder, sys.argv[1:])
        for key, value in about.items():
            console.print(f"{key}: {value}", markup=False, highlight=False)
        if absent := missing(_PEERS):
            console.print(f"not installed: {', '.join(absent)} (`make bench` installs them)")
        tables: list[Table] = []
        todo = list(rows.jobs(plan))
        with Progress(
            SpinnerColumn(), TextColumn("{task.completed}/{task.total}"), TimeElapsedColumn(),
            TextColumn("{task.description}"), console=Console(stderr=True), transient=True,
        ) as progress:  # fmt: skip
            bar = progress.add_task("", total=len(todo))
            for row, title, work in todo:

                def tick(way: str, title: str = title) -> None:
                    progress.update(bar, description=f"{title}: {way}")

                tick("")
                for measured in rows.run(row, title, work, tick):
                    table = unjudged(measured) if plan.tiny else measured
                    tables.append(table)
                    report.show(console, table)
                progress.advance(bar)
        skipped = [row for row in rows.ROWS if row not in plan.rows]
        console.print(f"not measured: {', '.join([*skipped, 'GPUs', 'several processes'])}")
    return Report(about, tuple(tables))


def _plan(arguments: argparse.Namespace, folder: Path) -> rows.Plan:
    sizes = _sizes(arguments)
    many = [1_000_000] if arguments.tiny else [10_000_000]
    if arguments.full:
        many.append(200_000_000)
    if arguments.sizes:
        many = [size for size in sizes if arguments.many]
    return rows.Plan(
        rows=frozenset(["profile"] if arguments.profile else arguments.only or rows.ROWS),
        sizes=sizes,
        many_sizes=many,
        repeats=arguments.repeats or (1 if arguments.tiny else 5),
        tiny=arguments.tiny,
        checkpoints=arguments.checkpoints,
        folder=folder,
    )


def _sizes(arguments: argparse.Namespace) -> list[int]:
    if arguments.sizes:
        return arguments.sizes
    if arguments.tiny:
        return [1_000_000]
    return _size_list(_FULL if arguments.full else _DEFAULT)


def _size_list(text: str) -> list[int]:
    sizes = []
    for part in text.split(","):
        match = re.fullmatch(r"([0-9.]+)\s*([A-Za-z]*)", part.strip())
        if match is None or match[2].upper() not in _UNITS:
            raise argparse.ArgumentTypeError(f"{part!r} is no size: write 10MB or 1GiB")
        sizes.append(round(float(match[1]) * _UNITS[match[2].upper()]))
    return sizes


def _row_list(text: str) -> list[str]:
    asked = text.split(",")
    unknown = [row for row in asked if row not in rows.ROWS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no row {unknown[0]!r}; there are {', '.join(rows.ROWS)}")
    return asked


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", type=_row_list, help=f"rows: {','.join(rows.ROWS)}")
    parser.add_argument("--sizes", type=_size_list, help=f"of states (default: {_DEFAULT})")
    parser.add_argument("--many", action="store_true", help="--sizes in many small tensors, too")
    parser.add_argument("--repeats", type=int, help="of each save and restore (default: 5)")
    parser.add_argument("--checkpoints", type=int, default=1_000_000, help="in the catalogue")
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    parser.add_argument("--tiny", action="store_true", help="a quick pass, for correctness only")
    parser.add_argument("--full", action="store_true", help="larger states, too")
    parser.add_argument("--profile", action="store_true", help="only where the time goes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE", help="show such a file")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put tables and plot into PAGE")
    arguments = parser.parse_args()
    if arguments.repeats is not None and arguments.repeats < 1:
        parser.error("--repeats must be 1 or more")
    return arguments


if __name__ == "__main__":
    main()
