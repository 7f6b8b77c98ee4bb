"""What a save costs besides its arrays, what a rebuild does, and what logging metrics takes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import holdfast
from bench import catalog_store
from holdfast import keep, when
from holdfast.policy.retention import KeepPolicy

_SAVES = 60


def saving(
    folder: Path, *, catalog: str | None, tiny: bool
) -> Iterator[tuple[str, list[float], str | None]]:
    """Yields title, milliseconds and target of a save's parts, in runs of several sizes.

    The runs lie in the large store, so that each write goes into tables of their real size. The
    state that is saved is one number: what is left is journal, manifest, catalog and clean-up.
    """
    for checkpoints in (10,) if tiny else (100, 10_000):
        policies: dict[str, KeepPolicy] = {
            "best(10) | latest(2)": keep.best(10, "loss") | keep.latest(2),
            "all()": keep.all(),
            "newer_than | best(10)": keep.newer_than(days=10_000) | keep.best(10, "loss"),
        }
        for number, (title, policy) in enumerate(policies.items()):
            run = f"real/{checkpoints}-{number}"
            with holdfast.open(folder, catalog=catalog) as store:
                catalog_store.make_real_run(store._place, run, checkpoints)
            with holdfast.open(folder, catalog=catalog) as store:
                parts = _saves(store, run, policy, count=3 if tiny else _SAVES)
            size = f"run of {checkpoints:,}, {title}"
            yield f"save().wait(), {size}", parts["whole"], None
            yield f"  clean-up of one save, {size}", parts["clean-up"], "5"
            yield f"  one write to the catalog, {size}", parts["write"], "0.5"


def _saves(
    store: holdfast.Store, name: str, policy: KeepPolicy, *, count: int
) -> dict[str, list[float]]:
    parts: dict[str, list[float]] = {"whole": [], "clean-up": [], "write": []}
    state = {"value": 0}
    with store.run(name, metric="loss", save=when.never(), keep=policy) as run:
        run.attach(model=state)
        # The first clean-up meets all that was there before the policy was.
        run.save(10**7, {"loss": 0.5}).wait()
        run.wait()
        with (
            _timing(type(store._place), "index", parts["write"]),
            _timing(type(run._session.saver), "retain", parts["clean-up"]),
        ):
            for number in range(count):
                state["value"] = number
                began = time.perf_counter()
                run.save(10**7 + 1 + number, {"loss": 1 / (number + 1)}).wait()
                parts["whole"].append((time.perf_counter() - began) * 1e3)
                run.wait()
    return parts


@contextmanager
def _timing(kind: Any, name: str, samples: list[float]) -> Iterator[None]:
    """Adds what each call of a method takes, in milliseconds, while the block lasts."""
    call = getattr(kind, name)

    def timed(*arguments: Any, **options: Any) -> Any:
        began = time.perf_counter()
        try:
            return call(*arguments, **options)
        finally:
            samples.append((time.perf_counter() - began) * 1e3)

    setattr(kind, name, timed)
    try:
        yield
    finally:
        setattr(kind, name, call)


def rebuilding_rate(folder: Path, *, checkpoints: int) -> float:
    """Returns the checkpoints per second of a `reindex` that reads as many manifests."""
    runs = max(1, checkpoints // 200)
    with holdfast.open(folder) as store:
        for number in range(runs):
            catalog_store.make_real_run(store._place, f"real-{number}", checkpoints // runs)
        began = time.perf_counter()
        store.reindex()
        seconds = time.perf_counter() - began
        found = sum(usage.checkpoints for usage in store.usage().runs.values())
    shutil.rmtree(folder)
    return found / seconds


@dataclass(frozen=True, slots=True)
class Logged:
    """What logging took.

    Attributes:
        points_per_s: Metric values from the first call of `step` until the last one stands in
            journal and catalog.
        steps_ms: What each call took.
    """

    points_per_s: float
    steps_ms: list[float]


def logging_rate(folder: Path, metrics: int, *, tiny: bool) -> Logged:
    """Logs steps with so many metrics each, as fast as the loop goes."""
    calls = 300 if tiny else max(2_000, 20_000 // (1 + metrics // 10))
    values = {f"metric/{number}": 0.1 * number for number in range(metrics)}
    taken: list[float] = []
    with (
        holdfast.open(folder) as store,
        store.run("logged", save=when.never()) as run,
    ):
        began = time.perf_counter()
        for step in range(calls):
            values["metric/0"] = 1 / (step + 1)
            before = time.perf_counter()
            run.step(step, values)
            taken.append((time.perf_counter() - before) * 1e3)
        run.wait()
        seconds = time.perf_counter() - began
        assert len(store["logged"].steps()) == calls
    shutil.rmtree(folder)
    return Logged(calls * metrics / seconds, taken)
