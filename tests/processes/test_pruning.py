"""A clean-up by another process that is killed between any two of its steps."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def explore(folder, stride):
    ended = subprocess.run(
        [sys.executable, "-m", "tests.processes.pruning", str(folder), str(stride)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr + ended.stdout
    return json.loads(ended.stdout.splitlines()[-1])


def test_a_killed_cleanup_loses_nothing_and_is_finished(tmp_path):
    explored = explore(tmp_path, 6)
    assert sum(explored.values()) >= 5


@pytest.mark.sweeps
def test_a_cleanup_killed_at_each_call_loses_nothing_and_is_finished(tmp_path, record_property):
    explored = explore(tmp_path, 1)
    assert explored["unlink"] >= 8
    assert explored["rename"] >= 2
    record_property("measured", f"a clean-up killed at each call: {explored}")
