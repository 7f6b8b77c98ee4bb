"""`python -m bench.catalog`: what a store of a million checkpoints answers, and how fast.

Medians, 95th percentiles and the slowest of many calls through the public names; the first call of
a fresh process besides; what the clean-up of one save costs; rows per second of a rebuild; points
per second of metric logging, and the slowest `step`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import holdfast
from bench import catalog_store
from bench.catalog_writes import logging_rate, rebuilding_rate, saving

Question = Callable[[holdfast.Store], Any]

_BUDGET_S = 2.0
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        what: What was measured.
        median: Of all calls but the first, in `unit`.
        p95: 95th percentile.
        worst: The slowest.
        unit: ``ms``, ``rows/s``, ...
        fresh: Median of the first call of fresh processes; None where that was not asked.
        target: What it should come to; None where there is none.
    """

    what: str
    median: float
    p95: float | None = None
    worst: float | None = None
    unit: str = "ms"
    fresh: float | None = None
    target: str | None = None


def questions(runs: int) -> dict[str, tuple[Question, str | None]]:
    """Returns what a store is asked, by name, each with its target in ms."""
    some = catalog_store.run_names(runs)[runs // 2]
    study = some.rpartition("/")[0]

    def page(run: str | None = None, **how: Any) -> Question:
        return lambda store: store.checkpoints(run, **{"limit": 50, **how})

    asked: dict[str, tuple[Question, str | None]] = {
        "best(val_loss)": (lambda store: store.best("val_loss"), "5"),
        "best(accuracy)": (lambda store: store.best("accuracy"), "5"),
        "best(val_loss, run=)": (lambda store: store.best("val_loss", run=some), "5"),
        "latest()": (lambda store: store.latest(), "5"),
        "latest(run)": (lambda store: store.latest(some), "5"),
        "newest 50": (page(), "5"),
        "oldest 50": (page(order_by="created_at"), "5"),
        "newest 50 of a run": (page(some), "5"),
        "all of a run": (page(some, limit=None), None),
        "by -step, of a run": (page(some, order_by="-step"), "5"),
        "by val_loss": (page(order_by="val_loss"), "5"),
        "by -accuracy": (page(order_by="-accuracy"), "5"),
        "by val_loss, of a run": (page(some, order_by="val_loss"), "5"),
        "by -step": (page(order_by="-step"), "5"),
        "by step": (page(order_by="step"), "5"),
        "by -epoch": (page(order_by="-epoch"), "5"),
        "by -nbytes": (page(order_by="-nbytes"), "5"),
        "by id": (page(order_by="id"), "5"),
        "loss < 0.5": (page(where="loss < 0.5"), "5"),
        "loss < 0.00001": (page(where="loss < 0.00001"), "5"),
        "loss < 0.001": (page(where="loss < 0.001"), "5"),
        "loss < 0.01": (page(where="loss < 0.01"), "5"),
        "loss < 0.01, by val_loss": (page(where="loss < 0.01", order_by="val_loss"), "5"),
        "loss<0.1 accuracy>0.9": (page(where="loss < 0.1 and accuracy > 0.9"), "5"),
        "tag = prod": (page(where="tag = prod"), "5"),
        "tag = nothing": (page(where="tag = nothing"), "5"),
        "tag != prod": (page(where="tag != prod"), "5"),
        "pinned = true": (page(where="pinned = true"), "5"),
        "pinned, by val_loss": (page(where="pinned = true", order_by="val_loss"), "5"),
        "damaged = true": (page(where="damaged = true"), "5"),
        "thinned = true": (page(where="thinned = true"), "5"),
        "kind = metrics": (page(where="kind = metrics"), "5"),
        "kind = weights": (page(where="kind = weights"), "5"),
        "reason = improved": (page(where="reason = improved"), "5"),
        "reason = preempted": (page(where="reason = preempted"), "5"),
        "step = 500": (page(where="step = 500"), "5"),
        "step >= 900 of a run": (page(some, where="step >= 900"), "5"),
        "epoch = 3": (page(where="epoch = 3"), "5"),
        "epoch = 100000": (page(where="epoch = 100000"), "5"),
        f"run = {study}/*": (page(where=f'run = "{study}/*"'), "5"),
        "run = nothing*": (page(where='run = "nothing*"'), "5"),
        "created_at < first hour": (page(where="created_at < 1700003600"), "5"),
        "newest 10,000, with all that is known of them": (page(limit=10_000), None),
        "runs()": (lambda store: store.runs(), None),
        "usage()": (lambda store: store.usage(), None),
    }
    return asked


def main() -> None:
    """Makes the stores, measures, prints."""
    arguments = _arguments()
    if arguments.fresh:
        _answer_afresh(arguments)
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="holdfast-catalog-") as name:
        rows = measure(Path(name), arguments)
    if arguments.json:
        json.dump([asdict(row) for row in rows], sys.stdout, indent=1)
        return
    _show(rows, arguments)


def measure(folder: Path, arguments: argparse.Namespace) -> list[Row]:
    """Returns all rows."""
    large = folder / "large"
    made = catalog_store.make_store(
        large, checkpoints=arguments.checkpoints, runs=arguments.runs, catalog=arguments.catalog
    )
    rows = [Row("filling a catalog", made.checkpoints / made.seconds, unit="rows/s")]
    rows += _asking(large, arguments)
    for title, taken, target in saving(large, catalog=arguments.catalog, tiny=arguments.tiny):
        rows.append(_row(title, taken, target=target))
    rate = rebuilding_rate(folder / "real", checkpoints=200 if arguments.tiny else 20_000)
    rows.append(Row("reindex() of manifests on disk", rate, unit="rows/s"))
    for metrics in (1, 10, 100):
        found = logging_rate(folder / "logged", metrics, tiny=arguments.tiny)
        title = f"step() with {metrics} metrics"
        target = "100,000" if metrics == 10 else None
        rate = found.points_per_s
        rows.append(Row(f"{title}, until durable", rate, unit="points/s", target=target))
        rows.append(_row(title, found.steps_ms, target="0.05" if metrics == 1 else None))
    return rows


def _asking(large: Path, arguments: argparse.Namespace) -> list[Row]:
    asked = questions(arguments.runs)
    budget_s = 0.0 if arguments.tiny else _BUDGET_S

    def opened() -> holdfast.Store:
        return holdfast.open(large, catalog=arguments.catalog)

    def fresh(name: str) -> float | None:
        return None if arguments.tiny else _fresh(large, name, arguments)

    opens = _samples(lambda: opened().close(), budget_s=budget_s)
    rows = [_row("open()", opens, fresh=fresh("open"), target="200")]
    with opened() as store:
        for name, (question, target) in asked.items():
            question(store)
            taken = _samples(partial(question, store), budget_s=budget_s)
            rows.append(_row(name, taken, fresh=fresh(name), target=target))
    return rows


def _samples(call: Callable[[], object], *, budget_s: float) -> list[float]:
    """Returns milliseconds of calls: at least 3, at most 500, until the budget is used up."""
    taken: list[float] = []
    until = time.perf_counter() + budget_s
    while len(taken) < 3 or (len(taken) < 500 and time.perf_counter() < until):
        began = time.perf_counter()
        call()
        taken.append((time.perf_counter() - began) * 1e3)
    return taken


def _row(
    what: str, taken: list[float], *, fresh: float | None = None, target: str | None = None
) -> Row:
    ordered = sorted(taken)
    p95 = ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))]
    return Row(what, statistics.median(ordered), p95, ordered[-1], fresh=fresh, target=target)


def _fresh(store: Path, name: str, arguments: argparse.Namespace) -> float:
    """Returns the median milliseconds of a question as the first one of a fresh process."""
    command = [sys.executable, "-m", "bench.catalog", "--fresh", name, "--folder", str(store)]
    command += ["--runs", str(arguments.runs)]
    command += ["--catalog", arguments.catalog] if arguments.catalog else []
    found = [
        float(subprocess.run(command, capture_output=True, check=True, cwd=_ROOT).stdout)
        for _ in range(3)
    ]
    return statistics.median(found)


def _answer_afresh(arguments: argparse.Namespace) -> None:
    began = time.perf_counter()
    with holdfast.open(arguments.folder, catalog=arguments.catalog) as store:
        if arguments.fresh != "open":
            question = questions(arguments.runs)[arguments.fresh][0]
            began = time.perf_counter()
            question(store)
        print((time.perf_counter() - began) * 1e3)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--checkpoints", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--tiny", action="store_true", help="a quick pass, for correctness only")
    parser.add_argument("--json", action="store_true", help="rows as JSON")
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    parser.add_argument("--catalog", help="another place for the catalog (default: in the store)")
    parser.add_argument("--fresh", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.tiny:
        arguments.checkpoints, arguments.runs = 600, 20
    return arguments


def _show(rows: list[Row], arguments: argparse.Namespace) -> None:
    title = f"{arguments.checkpoints:,} checkpoints in {arguments.runs:,} runs"
    table = Table(title=title, title_justify="left")
    table.add_column("what")
    for column in ("median", "95%", "slowest", "fresh", "target", "unit"):
        table.add_column(column, justify="right")
    for row in rows:
        numbers = (row.median, row.p95, row.worst, row.fresh)
        shown = ["" if number is None else f"{number:,.2f}" for number in numbers]
        table.add_row(row.what, *shown, row.target or "", row.unit)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
