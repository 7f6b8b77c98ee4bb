"""A small training that the kernel kills at a system call, and what must hold afterwards.

Run as ``python -m tests.engine.crashing SIZE FOLDER STRIDE``: it forks one training per state, for
an interpreter that has imported everything starts a training in no time. strace kills it at the
n-th system call of a kind. SIZE is ``small``, or ``large``: as if the state had many megabytes, its
shards are foreseen, and written in several pieces past the page cache. The last line of its output
is JSON: what was explored.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np

import holdfast
from holdfast import keep, when
from holdfast.engine import foreseen
from holdfast.storage import draft, local

RUN = "study/cnn"
LOSSES = [3.0, 1.0, 2.0, 4.0, 0.5]
SYSTEM_CALLS = [
    "openat", "write", "pwrite64", "fsync", "fdatasync", "rename", "renameat2", "link", "linkat",
    "unlink", "unlinkat", "mkdir", "rmdir", "flock", "ftruncate", "fchmod",
]  # fmt: skip


#: Numbers that change from step to step, in 8 bytes each.
CHANGING = {"small": 64, "large": 3000}
chosen = {"size": "small"}


def choose(size):
    """Makes the states of this size, and of the large ones a few kilobytes take the long way."""
    chosen["size"] = size
    if size == "large":
        foreseen._MIN_NBYTES = foreseen._PIECE_NBYTES = 8192
        local._DIRECT_NBYTES = draft._GATHER_NBYTES = 8192
        draft._PIECE_NBYTES = draft._STRAIGHT_NBYTES = 4096


class Model:
    """Live state of which most rests."""

    def __init__(self):
        self.state = arrays(-1)

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state


def arrays(step):
    head = np.full(CHANGING[chosen["size"]], step, "<f8")
    return {"encoder": np.ones(20_000, "<f4"), "head": head}


def open_run(store):
    policy = keep.best(1).items("model") | keep.latest(2)
    return store.run(RUN, metric="loss", save=when.never(), keep=policy)


def train(root, promises):
    """Trains on from where it stands; notes each checkpoint whose `wait` returned."""
    with holdfast.open(root) as store, open_run(store) as run:
        model = Model()
        run.attach(model=model, extra={"numbers": np.arange(5)})
        for step in range(run.resume(), len(LOSSES)):
            model.state = arrays(step)
            checkpoint = run.save(step, {"loss": LOSSES[step]}).wait()
            with promises.open("a") as file:
                file.write(f"{checkpoint.id} {step}\n")


def check(root, promises):
    """Asserts everything that was promised, opens the run again, and trains on to the end."""
    promised = dict(line.split() for line in promises.read_text().splitlines())
    with holdfast.open(root) as store:
        found = {checkpoint.id: checkpoint for checkpoint in store.checkpoints()}
        assert set(found) == manifests(root), "the catalog and the files differ"
        for checkpoint in found.values():
            check_loads(checkpoint)
        check_kept(promised, found)
        verified = store.verify()
        assert verified.ok, verified
        with open_run(store) as run:
            check_tidy(root)
            model = Model()
            run.attach(model=model, extra={"numbers": np.arange(5)})
            full = [c.step for c in run.checkpoints() if not c.thinned]
            start = run.resume()
            assert start == max(full, default=-1) + 1
            np.testing.assert_array_equal(model.state["head"], arrays(start - 1)["head"])
    train(root, promises)
    with holdfast.open(root) as store:
        assert store.latest(RUN).step == len(LOSSES) - 1
        assert store.verify().ok
        for checkpoint in store.checkpoints():
            check_loads(checkpoint)
    check_tidy(root)


def check_loads(checkpoint):
    for name, wanted in arrays(checkpoint.step).items():
        np.testing.assert_array_equal(checkpoint.load("model")[name], wanted)
    if not checkpoint.thinned:
        np.testing.assert_array_equal(checkpoint.load("extra")["numbers"], np.arange(5))


def check_kept(promised, found):
    """What the policy keeps of what was promised is there, or something newer in its place."""
    steps = sorted(int(step) for step in promised.values())
    if not steps:
        return
    there = {checkpoint.step: checkpoint for checkpoint in found.values()}
    for step in steps[-2:]:
        assert step in there or len([s for s in there if s > step]) >= 2, (step, there)
    assert max(there) >= steps[-1]
    assert not there[max(there)].thinned
    best = min(steps, key=LOSSES.__getitem__)
    assert best in there or any(LOSSES[s] < LOSSES[best] for s in there), (best, there)


def check_tidy(root):
    """Nothing that nobody needs is left: no half-written file, no shard without a checkpoint."""
    folder = root / "runs" / RUN.replace("/", "+")
    assert list(folder.rglob(".tmp-*")) == []
    assert {p.name for p in folder.iterdir() if p.is_dir()} == manifests(root)
    lonely = [p for p in (root / "shards").rglob("*.safetensors") if p.stat().st_nlink == 1]
    assert lonely == []


def manifests(root):
    return {path.parent.name for path in root.glob("runs/*/*/manifest.json")}


# -- killing ---------------------------------------------------------------------------------------


def fork(act):
    """Runs something in a child and returns its status."""
    child = os.fork()
    if child == 0:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - told by its status, and in words
            print(f"in the child: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return child


def status_of(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_at_system_call(root, promises, name, number, log=None):
    """Trains in a child that the kernel kills at its n-th call of that name; True if it was."""
    ready, go = os.pipe()

    def act():
        os.close(go)
        os.read(ready, 1)
        train(root, promises)

    child = fork(act)
    os.close(ready)
    what = f"trace={name}" if number is None else f"inject={name}:signal=KILL:when={number}"
    tracer = subprocess.Popen(
        ["strace", "-f", "-p", str(child), "-o", str(log or os.devnull), "-e", what],
        stderr=subprocess.PIPE,
        text=True,
    )
    attached = tracer.stderr.readline()
    assert "attached" in attached, attached
    os.write(go, b"1")
    os.close(go)
    status = status_of(child)
    tracer.communicate()
    assert status in (0, -9), status
    return status == -9


def sweep_system_calls(folder, stride):
    explored = Counter()
    root, promises = fresh(folder)
    log = folder / "log"
    kill_at_system_call(root, promises, ",".join(SYSTEM_CALLS), None, log)
    made = calls_per_thread(log)
    first = 0
    for name in SYSTEM_CALLS:
        # Another start for each, so that the stride does not meet the same steps of every call.
        first = first % stride + 1
        for number in range(first, max(made[name].values(), default=0) + 1, stride):
            root, promises = fresh(folder)
            if kill_at_system_call(root, promises, name, number):
                explored[name] += 1
            check(root, promises)
    return explored


def calls_per_thread(log):
    """Returns call to thread to count: strace counts per thread."""
    made = {name: Counter() for name in SYSTEM_CALLS}
    for line in log.read_text().splitlines():
        thread, _, call = line.partition(" ")
        name = call.strip().partition("(")[0]
        if name in made:
            made[name][thread] += 1
    return made


def fresh(folder):
    root = folder / "store"
    shutil.rmtree(root, ignore_errors=True)
    promises = folder / "promises"
    promises.write_text("")
    return root, promises


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    choose(sys.argv[1])
    print(json.dumps(sweep_system_calls(Path(sys.argv[2]), int(sys.argv[3]))))
