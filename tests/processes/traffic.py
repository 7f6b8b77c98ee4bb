"""Actors on one store, each a process of its own, for as long as they are told to go on.

Run as ``python -m tests.processes.traffic ROLE STORE SEED``. An actor goes on until its standard
input ends, and says one line per thing that it did: ``verb``, or ``promised ID STEP RUN``.
"""

from __future__ import annotations

import contextlib
import logging
import random
import select
import sys

import numpy as np

import holdfast
from holdfast import keep, opening, when

RUNS = ("a", "b", "c")
#: What other processes delete or hold is no error of an actor's.
EXPECTED = (holdfast.NotFoundError, holdfast.LockedError)


def state(step):
    """Returns what a run's model is at a step; most of it is the same in all runs."""
    return {
        "rest": np.arange(2000.0),
        "shared": np.full(500, step // 4, "<f8"),
        "own": np.full(64, step, "<f8"),
    }


def say(*words):
    print(*words, flush=True)


def going_on():
    return not select.select([sys.stdin], [], [], 0)[0]


class Model:
    def __init__(self):
        self.state = state(0)

    def state_dict(self):
        return self.state

    def load_state_dict(self, loaded):
        self.state = loaded


def train(store, draw, run_name):
    policy = keep.best(2, "loss").items("model") | keep.latest(3)
    with store.run(run_name, metric="loss", save=when.never(), keep=policy) as run:
        model = Model()
        run.attach(model=model, extra={"numbers": np.arange(5)})
        for step in range(run.resume(), 1 << 30):
            if not going_on():
                return
            model.state = state(step)
            run.step(step)
            checkpoint = run.save(step, {"loss": draw.random()}).wait()
            say("promised", checkpoint.id, step, run_name)


def some(store, draw):
    known = store.checkpoints()
    return [draw.choice(known)] if known else []


def prune(store, draw):
    policy = draw.choice([None, keep.latest(2), keep.best(3, "loss").items("model", "rng")])
    run = draw.choice([*RUNS, None])
    done = store.prune(run, policy=policy).apply()
    say("pruned" if done.deleted or done.thinned else "found-nothing-to-prune")


def read(store, draw):
    for checkpoint in some(store, draw):
        own = checkpoint.load("model")
        np.testing.assert_array_equal(own["own"], state(checkpoint.step)["own"])
        np.testing.assert_array_equal(own["shared"], state(checkpoint.step)["shared"])
        checkpoint.verify()
        say("read")


def speak(store, draw):
    for checkpoint in some(store, draw):
        verb = draw.choice(["report", "tag", "untag"])
        if verb == "report":
            checkpoint.report(val_loss=draw.random())
        else:
            getattr(checkpoint, verb)("prod")
        say(verb)


def reindex(store, draw):
    store.reindex()
    say("reindexed")


def repair(store, draw):
    found = store.repair(apply=True)
    damaged = [finding for finding in found.findings if finding.kind == "damaged"]
    assert not damaged, damaged
    say("repaired")


def verify(store, draw):
    found = store.verify(draw.choice(RUNS))
    assert found.ok, found
    say("verified")


#: A role does one of these after another, as the dice fall; few actors leave room for trainers.
ROLES = {
    "pruner": (prune, prune, speak),
    "keeper": (reindex, repair, prune),
    "reader": (read, read, read, speak, verify),
}


def act(role, place, seed):
    draw = random.Random(seed)
    # The one that is replaced may be stopped, not dead.
    opening.LOCK_TIMEOUT_S = 2.0
    while going_on():
        with contextlib.suppress(*EXPECTED), holdfast.open(place) as store:
            if role in RUNS:
                train(store, draw, role)
                continue
            for _ in range(8):
                with contextlib.suppress(*EXPECTED):
                    draw.choice(ROLES[role])(store, draw)
                if not going_on():
                    break


if __name__ == "__main__":
    logging.getLogger("holdfast").setLevel(logging.ERROR)
    act(sys.argv[1], sys.argv[2], int(sys.argv[3]))
