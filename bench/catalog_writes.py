"""What a save costs besides its arrays, what a rebuild does, and what logging metrics takes."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import holdfast
from bench import catalog_store
from holdfast import keep, when
from holdfast.policy.retention import KeepPolicy

_SAVES = 60


def saving(folder: Path, *, tiny: bool) -> Iterator[tuple[str, list[float], str | None]]:
    """Yields title, milliseconds and target of a save's parts, in runs of several sizes.

    The runs lie in the large store, so that each write goes into tables of their real size. The
    state that is saved is one number: what is left is journal, manifest, catalog and clean-up.
    """
    for checkpoints in (10,) if tiny else (100, 10_000):
        policies: dict[str, KeepPolicy] = {
            "best(10) | latest(2)": keep.best(10, "loss") | keep.latest(2),
            "all()": keep.all(),
            "every(100) | best(10) | newer_than": (
                keep.every(steps=1) | keep.best(10, "loss") | keep.newer_than(days=10_000)
            ),
        }
        for title, policy in policies.items():
            with holdfast.open(folder) as store:
                run = f"real/{checkpoints}-{len(title)}"
                catalog_store.make_real_run(store._place, run, checkpoints)
            whole, parts = _saves(folder, run, policy, count=3 if tiny else _SAVES)
            size = f"run of {checkpoints:,}, {title}"
            yield f"save().wait(), {size}", whole, None
            yield f"  of which clean-up, {size}", parts["retain"], "5"
            yield f"  of which catalog, per transaction, {size}", parts["index"], "0.5"


def _saves(
    folder: Path, name: str, policy: KeepPolicy, *, count: int
) -> tuple[list[float], dict[str, list[float]]]:
    state = {"value": 0}
    whole: list[float] = []
    parts: dict[str, list[float]] = {"retain": [], "index": []}
    with (
        holdfast.open(folder) as store,
        store.run(name, metric="loss", save=when.never(), keep=policy) as run,
    ):
        run.attach(model=state)
        _time(run._session.saver, "retain", parts["retain"])
        # The first clean-up meets all that was there before the policy was.
        run.save(10**7, {"loss": 0.5}).wait()
        run.wait()
        taken = _timed_catalog(store, parts["index"])
        for samples in parts.values():
            samples.clear()
        for number in range(count):
            state["value"] = number
            began = time.perf_counter()
            run.save(10**7 + 1 + number, {"loss": 1 / (number + 1)}).wait()
            run.wait()
            whole.append((time.perf_counter() - began) * 1e3)
        taken()
    return whole, parts


def _time(owner: Any, name: str, samples: list[float]) -> None:
    call = getattr(owner, name)

    def timed(*arguments: Any, **options: Any) -> Any:
        began = time.perf_counter()
        try:
            return call(*arguments, **options)
        finally:
            samples.append((time.perf_counter() - began) * 1e3)

    setattr(owner, name, timed)


def _timed_catalog(store: holdfast.Store, samples: list[float]) -> Callable[[], None]:
    """Times each transaction of the catalog from its begin to its commit; returns what ends it."""
    kind = type(store._place)
    index = kind.index

    def timed(place: Any, write: Any) -> bool:
        began = time.perf_counter()
        done = index(place, write)
        samples.append((time.perf_counter() - began) * 1e3)
        return done

    kind.index = timed  # type: ignore[method-assign]

    def end() -> None:
        kind.index = index  # type: ignore[method-assign]

    return end


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


if __name__ == "__main__":
    sys.exit("run python -m bench.catalog")
