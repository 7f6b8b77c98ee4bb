"""The rows of the catalogue: `bench.catalog`, run as its own program."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.measure import Samples
from bench.results import Table, Verdict

_ROOT = Path(__file__).parents[1]


def catalogue(
    folder: Path, *, tiny: bool, checkpoints: int, tick: Callable[[str], object]
) -> list[Table]:
    """Returns what `python -m bench.catalog --json` measured, a table for each unit."""
    size = ["--tiny"] if tiny else ["--checkpoints", str(checkpoints)]
    if not tiny:
        size += ["--runs", str(max(1, checkpoints // 100))]
    done = subprocess.run(
        [sys.executable, "-m", "bench.catalog", "--json", "--folder", str(folder), *size],
        capture_output=True,
        text=True,
        cwd=_ROOT,
        check=False,
    )
    tick("catalog")
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
        raise RuntimeError(f"bench.catalog: {lines[-1]}")
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    title = "the catalogue, tiny" if tiny else f"the catalogue, {checkpoints:,} checkpoints"
    return [
        _table(f"{title}, {unit}", unit, [row for row in rows if row["unit"] == unit])
        for unit in dict.fromkeys(row["unit"] for row in rows)
    ]


def _table(title: str, unit: str, rows: list[dict[str, Any]]) -> Table:
    ways = tuple(_samples(row) for row in rows)
    verdicts = tuple(_verdict(row, unit) for row in rows if row["target"])
    return Table("catalog", title, unit, ways, verdicts)  # type: ignore[arg-type]


def _samples(row: dict[str, Any]) -> Samples:
    notes = [
        f"{name} {row[key]:.3g}"
        for key, name in (("p95", "95%"), ("worst", "worst"), ("fresh", "fresh process"))
        if row.get(key) is not None
    ]
    return Samples(row["what"], limit=False, values=(row["median"],), note=", ".join(notes))


def _verdict(row: dict[str, Any], unit: str) -> Verdict:
    """Returns whether a row meets its target: at most so long, at least so many a second."""
    found, target = row["median"], str(row["target"])
    try:
        bound = float(target.replace(",", ""))
    except ValueError:
        return Verdict(f"{row['what']}: {target}", f"{found:.3g} {unit}", None)
    met = found >= bound if "/s" in unit else found <= bound
    return Verdict(f"{row['what']}: {target} {unit}", f"{found:.3g} {unit}", met)
