"""A clean-up that is killed at each of its calls, and what must hold afterwards.

Run as ``python -m tests.processes.pruning FOLDER STRIDE``: it forks one clean-up per state. The
last line of its output is JSON: how often each call was the last one.
"""

from __future__ import annotations

import functools
import json
import logging
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from tests.engine.crashing import KILLED, Ending, check_tidy, fork, manifests, status_of

import holdfast
from holdfast import keep, placing, when
from holdfast.storage import LocalStorage

RUN = "study/cnn"
STEPS = 6
#: Thins two, keeps two in full, deletes the others; the values are in the order of the steps.
LOSSES = [1.0, 5.0, 2.0, 6.0, 4.0, 3.0]
POLICY = keep.best(2, "loss").items("model") | keep.latest(2)
KEPT = [0, 2, 4, 5]
THINNED = [0, 2]


def prepare(root):
    """Makes a run whose checkpoints share a shard."""
    with holdfast.open(root) as store, store.run(RUN, metric="loss", save=when.never()) as run:
        model = {"rest": np.ones(20_000), "own": np.zeros(8)}
        run.attach(model=model, extra={"numbers": np.arange(5)})
        for step, loss in enumerate(LOSSES):
            model["own"] += 1
            run.save(step, {"loss": loss}).wait()


def prune(root, ending):
    placing.LocalStorage = functools.partial(LocalStorage, posix=ending.posix)
    with holdfast.open(root) as store:
        store.prune(RUN, policy=POLICY).apply()
    root.with_name("calls").write_text(str(ending.count))


def check(root, log):
    """Asserts that nothing was lost that was to stay, and that the next opener finishes."""
    with holdfast.open(root) as store:
        there = {c.step: c for c in store.checkpoints(RUN)}
        assert {c.id for c in there.values()} == manifests(root), "the catalog and the files differ"
        assert set(KEPT) <= set(there)
        assert store.verify().ok
        for step in set(KEPT) - set(THINNED):
            np.testing.assert_array_equal(there[step].load("extra")["numbers"], np.arange(5))
        begun = set(there) != set(range(STEPS)) or any(c.thinned for c in there.values())
        log.clear()
        with store.run(RUN, save=when.never()) as run:
            left = {c.step: c.thinned for c in run.checkpoints()}
        if begun:
            assert left == {step: step in THINNED for step in KEPT}, left
        assert set(left) in (set(KEPT), set(range(STEPS))), left
        if set(left) != set(there):
            assert any("finishing an interrupted clean-up" in line for line in log), log
        for checkpoint in store.checkpoints(RUN):
            own = checkpoint.load("model")["own"]
            np.testing.assert_array_equal(own, np.full(8, checkpoint.step + 1.0))
        store.prune(RUN, policy=POLICY).apply()
        assert sorted(c.step for c in store.checkpoints(RUN)) == KEPT
        assert store.verify().ok
        assert store.repair().ok
    check_tidy(root)


class Lines(logging.Handler):
    """Collects what was logged."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


def sweep(folder, stride):
    log = Lines()
    logger = logging.getLogger("holdfast")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(log)
    first = folder / "first"
    if status_of(fork(functools.partial(prepare, first))) != 0:
        raise AssertionError("no store was prepared")
    explored = Counter()
    number, total = 0, 1
    while number <= total:
        root = folder / f"store-{number}"
        # With the links of the files among each other, and with no others.
        subprocess.run(["cp", "-a", first, root], check=True)
        ending = Ending(number, folder / "call")
        status = status_of(fork(functools.partial(prune, root, ending)))
        assert status == (KILLED if number else 0), status
        if not number:
            total = int((folder / "calls").read_text())
        check(root, log.lines)
        explored[(folder / "call").read_text() if number else "none"] += 1
        number += stride if number else 1
    return explored


if __name__ == "__main__":
    print(json.dumps(sweep(Path(sys.argv[1]), int(sys.argv[2]))))
