"""Holdfast's own ways, through its public names."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import torch

import holdfast
from bench.files import evict, files_below
from bench.measure import Figures, SkippedError, timed
from bench.states import State
from holdfast import keep, when


def open_run(store: holdfast.Store, name: str, *, policy: Any, **options: Any) -> Any:
    """Returns a run that saves when told to.

    Raises:
        SkippedError: This version has no such option.
    """
    try:
        return store.run(name, save=when.never(), keep=policy, **options)
    except (TypeError, holdfast.ConfigError) as error:
        if not options:
            raise
        why = getattr(error, "message", str(error))
        raise SkippedError(f"not in this version: {why}") from error


class HoldfastSave:
    """`run.save(step)`, and its `wait()`.

    Args:
        name: What the tables call it.
        state: What is saved.
        folder: The store's, made here.
        cleaning: Whether the save before is deleted by the save that counts; otherwise it is
            deleted between two repeats, as the other tools' files are.
        options: For `Store.run`.
    """

    limit = False

    def __init__(
        self, name: str, state: State, folder: Path, *, cleaning: bool = False, **options: Any
    ) -> None:
        self.name = name
        self.note = "deletes the one before, too" if cleaning else ""
        self._state = state
        self._cleaning = cleaning
        self._overlaps = options.get("snapshot") == "overlap"
        self._steps = itertools.count()
        self._store = holdfast.open(folder)
        policy = keep.latest(1) if cleaning else keep.all()
        try:
            self._run = open_run(self._store, "bench", policy=policy, **options)
        except BaseException:
            self._store.close()
            raise
        self._run.attach(model=state.model)
        # Stepping any optimizer is where a copy that overlaps must be complete.
        self._optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.0)

    def check(self) -> None:
        self._state.advance()
        saved = self._run.save(next(self._steps)).wait()
        self._state.require_equal(saved.load("model"))

    def once(self) -> Figures:
        self._state.advance()
        began = time.perf_counter()
        pending = self._run.save(next(self._steps))
        blocked = time.perf_counter() - began
        if self._overlaps:
            self._pretend_to_compute(began)
            blocked += timed(self._optimizer.step)
        pending.wait()
        if self._cleaning:
            self._run.wait()
        durable = time.perf_counter() - began
        self._run.wait()
        if not self._cleaning:
            self._store.prune("bench", policy=keep.latest(1)).apply()
        return {"blocked": blocked, "durable": durable, "behind": durable - blocked}

    def _pretend_to_compute(self, began: float) -> None:
        """Computes for about twice as long as a copy takes, as forward and backward do."""
        spent = 2 * self._state.nbytes / 5e9
        matrix = torch.ones(256, 256)
        while time.perf_counter() - began < spent:
            matrix = (matrix @ matrix).clamp_(0, 1)

    def close(self) -> None:
        self._run.close()
        self._store.close()


class HoldfastRestore:
    """`checkpoint.restore(model=live)`, every digest checked."""

    limit = False
    note = "every digest checked"

    def __init__(self, name: str, state: State, live: State, folder: Path) -> None:
        self.name = name
        self._state, self._live, self._folder = state, live, folder
        self._store = holdfast.open(folder)
        with open_run(self._store, "bench", policy=keep.all()) as run:
            run.attach(model=state.model)
            self._id = run.save(0).wait().id

    def check(self) -> None:
        self._restore()
        self._state.require_equal(self._live.tensors)

    def once(self) -> Figures:
        warm = self._restore()
        evict(files_below(self._folder / "runs"))
        return {"warm": warm, "cold": self._restore()}

    def _restore(self) -> float:
        self._live.zero()
        return timed(lambda: self._store.get(self._id).restore(model=self._live.model))

    def close(self) -> None:
        self._store.close()
