"""Killed at any moment: what was promised is there, the rest is whole or invisible."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


def sweep(size, folder, stride):
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.crashing", size, str(folder), str(stride)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.sweeps
def test_a_training_that_the_kernel_kills_at_a_system_call_goes_on(tmp_path, record_property):
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    explored = sweep("large", tmp_path, 3)
    for call in (
        "openat", "write", "pwrite64", "fsync", "rename", "link", "unlink", "mkdir", "ftruncate",
    ):  # fmt: skip
        assert explored.get(call), explored
    each = ", ".join(f"{call} {count}" for call, count in explored.items())
    record_property("measured", f"killed at {sum(explored.values())} system calls: {each}")
