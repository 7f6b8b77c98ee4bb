"""`import holdfast` costs next to nothing: what is heavy comes when it is used."""

import json
import re
import statistics
import subprocess
import sys

import pytest

HEAVY = {
    "blake3", "click", "fastapi", "jax", "jinja2", "matplotlib", "nicegui", "numpy", "obstore",
    "pandas", "psycopg", "pydantic", "rich", "safetensors", "sklearn", "sqlalchemy", "sqlite3",
    "torch", "typer",
}  # fmt: skip
POLICIES = ("when", "keep", "stop", "CheckpointStrategy", "preset", "Moment", "Plan", "Verdict")
IMPORT_LINE = re.compile(r"^import time:\s+(\d+) \|\s+(\d+) \| ( *)(\S+)$", re.MULTILINE)


def modules_after(statement: str) -> set[str]:
    """Returns the top-level modules that a fresh interpreter holds after a statement."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    answer = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    return {name.partition(".")[0] for name in json.loads(answer.stdout)}


@pytest.mark.parametrize("statement", ["import holdfast", "import holdfast.errors"])
def test_the_public_import_brings_in_nothing_heavy(statement):
    assert modules_after(statement) & HEAVY == set()


@pytest.mark.parametrize("name", POLICIES)
def test_policies_come_without_arrays_and_without_sql(name):
    assert modules_after(f"from holdfast import {name}") & HEAVY == set()


def test_a_heavy_import_would_be_noticed():
    assert "numpy" in modules_after("import numpy") & HEAVY


def test_what_the_public_import_costs_is_measured_and_shown(record_property):
    costs = []
    for _ in range(5):
        answer = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", "import holdfast"],
            check=True,
            capture_output=True,
            text=True,
        )
        lines = IMPORT_LINE.findall(answer.stderr)
        totals = {name: int(total) for _, total, _, name in lines}
        costs.append(totals["holdfast"] / 1000)
    slowest = sorted(lines, key=lambda line: -int(line[0]))[:3]
    median = statistics.median(costs)
    own = ", ".join(f"{name} {int(took) / 1000:.1f}" for took, _, _, name in slowest)
    record_property(
        "measured", f"import holdfast: median {median:.1f} ms of {len(costs)} (slowest: {own})"
    )
    assert len(costs) == 5
    assert median > 0
