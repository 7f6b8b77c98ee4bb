"""Trainers, readers, pruners, reporters and repairers on one store, some of which are killed."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import holdfast
from tests.processes.traffic import ROLES, RUNS, state

ROOT = Path(__file__).parents[2]
ACTORS = (*RUNS, *ROLES)


class Actor:
    """A process on the store; what it says and complains of goes to files."""

    def __init__(self, role, place, seed):
        self.role = role
        self.out, self.log = (tempfile.TemporaryFile("w+") for _ in range(2))  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.processes.traffic", role, str(place), str(seed)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=self.out, stderr=self.log,
        )  # fmt: skip

    def end(self, *, kill=False):
        """Ends it; returns the lines that it said in full."""
        if kill:
            self.process.kill()
        self.process.stdin.close()
        code = self.process.wait(timeout=90)
        self.out.seek(0)
        self.log.seek(0)
        said, log = self.out.read(), self.log.read()
        self.out.close()
        self.log.close()
        assert code in ((0, -signal.SIGKILL) if kill else (0,)), f"{self.role}: {log}"
        assert "Traceback" not in log, f"{self.role}: {log}"
        return [line for line in said.splitlines(keepends=True) if line.endswith("\n")]


def play(place, seed, seconds):
    """Lets all of them at the store, and kills or stops one after another."""
    draw = random.Random(seed)
    lines, happened = [], Counter()
    actors = {role: Actor(role, place, draw.randrange(1 << 30)) for role in ACTORS}
    ends = time.monotonic() + seconds
    try:
        while time.monotonic() < ends:
            # The pace of the accidents; nothing is waited for.
            time.sleep(draw.uniform(0.8, 1.6))
            role = draw.choice(ACTORS)
            if draw.random() < 0.7:
                lines += actors[role].end(kill=True)
                actors[role] = Actor(role, place, draw.randrange(1 << 30))
                happened["killed"] += 1
            else:
                os.kill(actors[role].process.pid, signal.SIGSTOP)
                time.sleep(draw.uniform(0.05, 0.5))
                os.kill(actors[role].process.pid, signal.SIGCONT)
                happened["stopped"] += 1
    finally:
        for actor in actors.values():
            actor.process.stdin.close()
    for actor in actors.values():
        lines += actor.end()
    happened.update(line.split()[0] for line in lines)
    return [line.split()[1:] for line in lines if line.startswith("promised")], happened


def check_end(place, promised):
    """Nothing is damaged, lost or left over, and the catalog tells what the files do."""
    newest = {}
    for checkpoint_id, step, run in promised:
        newest[run] = max(newest.get(run, (-1, "")), (int(step), checkpoint_id))
    with holdfast.open(place) as store:
        store.repair(apply=True)
        assert store.repair().ok
        assert store.verify().ok
        known = store.checkpoints()
        for checkpoint in known:
            model = checkpoint.load("model")
            for name, wanted in state(checkpoint.step).items():
                np.testing.assert_array_equal(model[name], wanted)
        for run, (step, checkpoint_id) in newest.items():
            full = [c for c in known if c.run == run and not c.thinned]
            assert max(c.step for c in full) >= step, (checkpoint_id, full)
        before = {c.id: (c.items, c.tags, c.metrics) for c in known}
        store.reindex()
        assert {c.id: (c.items, c.tags, c.metrics) for c in store.checkpoints()} == before
        manifests = {path.parent.name for path in place.glob("runs/*/*/manifest.json")}
        assert manifests == set(before)


@pytest.mark.sweeps
@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", [int(os.environ.get("HOLDFAST_SEED", "1"))])
def test_many_processes_some_of_which_die_lose_nothing(tmp_path, record_property, seed):
    place = tmp_path / "store"
    promised, happened = play(place, seed, 40)
    record_property("measured", f"traffic with seed {seed}: {dict(happened.most_common())}")
    check_end(place, promised)
    assert happened["killed"] >= 10
    assert {"promised", "pruned", "read", "reindexed", "repaired", "verified"} <= set(happened)
