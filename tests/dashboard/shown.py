"""A store with something of everything to look at, and whoever trains in it meanwhile."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

import holdfast
from holdfast import keep, when
from tests.lifecycle.stores import flip

#: What would run, were it ever taken for HTML or for code.
HOSTILE = '<img src=x onerror="window.hit=1"> <script>window.hit=1</script> {{7*7}} ${window.hit=1}'
#: The same as names may be; one is what the pages' library takes for code when it is a key.
HOSTILE_METRIC = ":<img/src=x/onerror=window.hit=1>"


def make_store(place: Path) -> None:
    """Makes a store of five runs: trained, resumed, failed, branched, and one that means harm."""
    with holdfast.open(place) as store:
        digits(store)
        branch(store)
        harm(store)


def digits(store: holdfast.Store) -> None:
    chance = np.random.default_rng(1)
    model = {"weight": np.zeros((64, 64), np.float32), "frozen": np.ones(512, np.float32)}
    optimizer = {"momentum": np.zeros((64, 64), np.float32)}
    with store.run(
        "digits/cnn",
        metric="val_loss",
        save=when.improved() | when.every(steps=10),
        keep=keep.best(3).items("model") | keep.latest(2),
        config={"lr": 3e-4, "net": {"depth": 4, "width": 64}},
    ) as run:
        run.attach(model=model, optimizer=optimizer)
        for step in range(120):
            model["weight"] += chance.normal(size=(64, 64)).astype(np.float32) * 0.01
            optimizer["momentum"] += 0.1
            loss = math.exp(-step / 40) + 0.1 * float(chance.random())
            metrics = {"val_loss": loss, "accuracy": 1 - loss / 2}
            run.step(step, metrics, epoch=step // 20)
        run.wait()
        run.best().tag("prod")
        run.best().pin()


def branch(store: holdfast.Store) -> None:
    model = {"weight": np.zeros((32, 32), np.float32)}
    with store.run("digits/wide", metric="accuracy", save=when.every(steps=5), parent="digits/cnn",
                   config={"lr": 1e-3, "net": {"depth": 4, "width": 128}}) as run:  # fmt: skip
        run.attach(model=model)
        for step in range(40):
            model["weight"] += 1
            run.step(step, accuracy=0.5 + step / 100, loss=1 / (step + 1))
        run.wait()
        run.rollback("step:24")
        for step in range(25, 34):
            model["weight"] -= 1
            run.step(step, accuracy=0.6 + step / 100, loss=0.9 / (step + 1))
        run.finish({"accuracy": 0.93})


def harm(store: holdfast.Store) -> None:
    config = {HOSTILE: HOSTILE, ":x": HOSTILE}
    with store.run("study/hostile", save=when.never(), config=config) as run:
        weights = np.zeros(4)
        run.attach(model={"w": weights})
        for step in range(3):
            weights += 1
            run.step(step, {"loss": 1.0 / (step + 1), HOSTILE_METRIC: float(step)})
            run.save(
                step,
                {"loss": 1.0 / (step + 1), HOSTILE_METRIC: float(step)},
                reason=f"<img src=x onerror=window.hit=1>: {step}",
                metadata={HOSTILE: HOSTILE},
            ).wait()
    checkpoint = store["study/hostile"].get("step:1")
    flip(checkpoint.path / "model.safetensors")
    store.verify("study/hostile")
