"""`python -m bench` works without the tools that it compares with, and says what is missing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: As if nothing of the extra `bench` were installed.
WITHOUT = """
import runpy, sys
for name in ("orbax", "jax", "lightning", "torch_checkpointing", "matplotlib"):
    sys.modules[name] = None
runpy.run_module("bench", run_name="__main__", alter_sys=True)
"""
QUICK = "blocked,durable,restore,stored,step,profile"


def bench(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT, *arguments, "--folder", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    arguments = ("--tiny", "--only", QUICK, "--sizes", "1MB", "--json", str(folder / "out.json"))
    done = bench(*arguments, folder=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads((folder / "out.json").read_text(encoding="utf-8"))


def ways(figures, row):
    return {way["name"]: way for t in figures["tables"] if t["row"] == row for way in t["ways"]}


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ("blocked", "holdfast"),
        ("blocked", "one memory copy, one thread"),
        ("durable", "holdfast"),
        ("durable", "holdfast, with clean-up"),
        ("durable", "raw O_DIRECT write + fsync"),
        ("durable", "safetensors save_file + fsync"),
        ("durable", "torch.save + fsync"),
        ("durable", "DCP save, 2 threads"),
        ("warm", "holdfast, verified"),
        ("cold", "torch.load(mmap=True) + copy"),
        ("stored", "90% frozen, requires_grad=False"),
        ("step", "run.step()"),
        ("profile", "digests"),
    ],
)
def test_what_needs_no_other_tool_is_measured(measured, row, name):
    way = ways(measured[1], row)[name]
    assert way["error"] == ""
    assert way["values"]


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ("durable", "torch_checkpointing"),
        ("durable", "Lightning CheckpointIO"),
        ("blocked", "Orbax AsyncCheckpointer"),
        ("warm", "Orbax"),
    ],
)
def test_what_is_not_installed_says_so_in_its_table(measured, row, name):
    way = ways(measured[1], row)[name]
    assert way["values"] == []
    assert "not installed" in way["error"]


def test_what_is_not_installed_is_named_at_the_start(measured):
    assert "not installed: orbax-checkpoint, torch_checkpointing, lightning" in measured[0]


def test_every_phase_of_the_profile_is_found_in_the_library(measured):
    notes = [note for t in measured[1]["tables"] if t["row"] == "profile" for note in t["notes"]]
    assert notes
    assert [note for note in notes if note.startswith("Not found")] == []


def test_an_unknown_row_is_refused_with_the_names_of_all(tmp_path):
    done = bench("--only", "speed", folder=tmp_path)
    assert done.returncode == 2
    assert "no row 'speed'; there are blocked, durable, restore" in done.stderr
