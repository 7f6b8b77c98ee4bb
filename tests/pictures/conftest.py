"""A run that has every kind of mark, and one whose names are an attack."""

from __future__ import annotations

import math

import numpy as np
import pytest

import holdfast
from holdfast import SaveError, keep, when

pytest.importorskip("matplotlib", reason="the extra 'plots' is not installed")
pytest.importorskip("jinja2", reason="the extra 'plots' is not installed")

ATTACK = "<script>alert('1')</script>\"&"


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    with holdfast.open(tmp_path_factory.mktemp("pictures") / "store") as store:
        with store.run(
            "study/vit",
            metric="val_loss",
            save=when.improved() | when.every(steps=6),
            keep=keep.best(3).items("model") | keep.latest(1),
            config={"lr": 3e-4, "net": {"depth": 4}},
        ) as run:
            run.attach(model={"w": np.zeros(9)}, optimizer={"m": np.zeros(9)})
            for step in range(30):
                loss = math.nan if step == 11 else 1 / (step + 1) + 0.02 * (step % 5)
                run.step(step, {"val_loss": loss, "lr": 1e-3 / (step + 1), "loss": loss + 0.1})
                run.wait()
            run.best().pin()
            run.best().tag("prod")
            fail_once(run, step=30)
        with store.run("other", metric="loss", save=when.never()) as run:
            run.step(0, loss=1.0)
        yield store


@pytest.fixture(scope="session")
def hostile(tmp_path_factory):
    """A store in which everything that a run can name is meant to break out of a page."""
    with holdfast.open(tmp_path_factory.mktemp("hostile") / "a'b\"<i>") as store:
        with store.run(
            "run",
            metric=ATTACK,
            mode="min",
            save=when.never(),
            keep=keep.all(),
            config={ATTACK: ATTACK, "deep": {ATTACK: [ATTACK]}, "unseen": "\u202e\x00\x1b[31m"},
        ) as run:
            run.attach(model={"w": np.zeros(3)})
            for step in range(3):
                run.step(step, {ATTACK: 1.0 / (step + 1), "$x^{$": float(step), "中文": 1.0 * step})
                run.save(step, reason=ATTACK, metadata={ATTACK: ATTACK}).wait()
        yield store


def fail_once(run, *, step):
    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(
            "holdfast.storage.posix.Posix.rename",
            lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")),
        )
        with pytest.raises(SaveError):
            run.save(step).wait()
    run.save(step + 1).wait()
