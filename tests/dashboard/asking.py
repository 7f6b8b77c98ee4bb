"""A store on show, asked as programs ask it: through the gate, on a loop of its own."""

from __future__ import annotations

import contextlib
import subprocess

import numpy as np
from starlette.testclient import TestClient

import holdfast
from holdfast import keep, when
from holdfast.dashboard.addresses import Addresses
from holdfast.dashboard.application import build
from holdfast.dashboard.gate import Gate
from holdfast.dashboard.site import Site

PORT = 8765
HERE = f"http://127.0.0.1:{PORT}"
TOKEN = "a-token-of-some-length"
BEARER = {"authorization": f"Bearer {TOKEN}"}


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@contextlib.contextmanager
def asking(place, *, token=None, host="127.0.0.1", allowed=(), clock=None, **site):
    """Yields a client of the store's dashboard; `client.site` is the store on show."""
    named = Addresses.of(host, PORT, allowed=allowed)
    gate = Gate(named, token=token, **({"clock": clock} if clock else {}))
    served = build(Site(str(place), **site), gate)
    with TestClient(
        served.app, base_url=HERE, raise_server_exceptions=False, follow_redirects=False
    ) as client:
        client.site = served.site
        yield client


def copied(original, place):
    """Returns a copy of a store; names of one file stay names of one file."""
    subprocess.run(["cp", "-a", original, place], check=True)
    return place


def train(place, name="study/trial-7", steps=6, *, metric="val_loss", start=0):
    """Makes a run whose loss falls, with a NaN at its second step; returns its checkpoints' ids."""
    ids = []
    with (
        holdfast.open(place) as store,
        store.run(
            name, metric=metric, save=when.never(), keep=keep.all(), config={"lr": 3e-4, "n": "x"}
        ) as run,
    ):
        state = {"w": np.zeros(8, "f4"), "frozen": np.ones(4)}
        run.attach(model=state)
        for step in range(start, start + steps):
            state["w"] += 1
            loss = float("nan") if step == 1 else 1.0 / (step + 1)
            run.step(step, {"val_loss": loss, "eval": {"accuracy": 1 - 1 / (step + 2)}})
            saved = run.save(step, {"val_loss": loss}, metadata={"batch": step}).wait()
            ids.append(saved.id)
    return ids
