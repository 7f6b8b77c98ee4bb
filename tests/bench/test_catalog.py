"""`python -m bench.catalog --tiny` measures every row, on a store that answers what was put in."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import holdfast
from bench import catalog_store

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("catalog")
    command = [sys.executable, "-m", "bench.catalog", "--tiny", "--json", "--folder", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(folder.iterdir()) == []
    return {row["what"]: row for row in json.loads(done.stdout)}


@pytest.mark.parametrize(
    ("what", "unit"),
    [
        ("filling a catalog", "rows/s"),
        ("open()", "ms"),
        ("best(val_loss)", "ms"),
        ("newest 50", "ms"),
        ("usage()", "ms"),
        ("  clean-up of one save, run of 10, all()", "ms"),
        ("reindex() of manifests on disk", "rows/s"),
        ("step() with 10 metrics, until durable", "points/s"),
        ("step() with 1 metrics", "ms"),
    ],
)
def test_a_row_is_measured(rows, what, unit):
    assert rows[what]["unit"] == unit
    assert rows[what]["median"] > 0


def test_the_store_that_is_asked_opens_as_it_was_made(tmp_path, caplog):
    made = catalog_store.make_store(tmp_path / "store", checkpoints=60, runs=6)
    assert made.checkpoints == 60
    with caplog.at_level("INFO"), holdfast.open(tmp_path / "store") as store:
        assert "was behind" not in caplog.text
        assert len(store.checkpoints()) == 60
        assert len(store.runs()) == 6
        assert store.best("val_loss").path.is_dir()
        usage = store.usage()
        assert sum(run.checkpoints for run in usage.runs.values()) == 60
