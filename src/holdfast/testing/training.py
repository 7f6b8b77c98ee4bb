"""A small training that saves, thins and deletes as it goes: the scenario that matters most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import holdfast
from holdfast import keep, when
from holdfast.checkpoint import Checkpoint
from holdfast.run import Run
from holdfast.storage import Posix
from holdfast.store import Store
from holdfast.testing.scenario import (
    Promise,
    Scenario,
    Weights,
    opened,
    require,
    require_catalog_and_files_agree,
    require_sound,
    require_tidy,
    same_arrays,
)

RUN = "study/cnn"
_RESTING = 20_000


class Training(Scenario):
    """Saves a checkpoint per step, keeps the best as weights only and the two newest in full.

    Args:
        changing: Numbers of 8 bytes that change at every step. From 131,072 on (1 MiB) their
            shards are written ahead of their digests, and past the page cache where that works.
        losses: One per step.
    """

    def __init__(
        self, changing: int = 64, losses: Sequence[float] = (3.0, 1.0, 2.0, 4.0, 0.5)
    ) -> None:
        self.name = "training" if changing < 1 << 17 else "training, large"
        self._changing = changing
        self.losses = tuple(losses)

    def arrays(self, step: int) -> dict[str, np.ndarray]:
        """Returns the weights at a step, of which most rest."""
        head = np.full(self._changing, step, "<f8")
        return {"encoder": np.ones(_RESTING, "<f4"), "head": head}

    def act(self, root: Path, posix: Posix, promise: Promise) -> None:
        """Trains on from where the run stands; promises each checkpoint whose `wait` returned."""
        with opened(root, posix) as store:
            self.train(store, promise)

    def train(self, store: Store, promise: Promise) -> None:
        """Does what `act` does, in an opened store."""
        with self.open_run(store) as run:
            weights = Weights(self.arrays(-1))
            run.attach(model=weights, extra={"numbers": np.arange(5)})
            for step in range(run.resume(), len(self.losses)):
                weights.state = self.arrays(step)
                checkpoint = run.save(step, {"loss": self.losses[step]}).wait()
                promise(f"{checkpoint.id} {step}")

    def open_run(self, store: Store) -> Run:
        """Opens the run for writing."""
        policy = keep.best(1).items("model") | keep.latest(2)
        run = store.run(RUN, metric="loss", save=when.never(), keep=policy)
        require(isinstance(run, Run), "this process is not the one that writes")
        return run  # type: ignore[return-value]

    def check(self, root: Path, promised: Sequence[str]) -> None:
        """Looks at everything, resumes, trains to the end, and looks again."""
        with holdfast.open(root) as store:
            found = store.checkpoints()
            require_catalog_and_files_agree(root, found)
            for checkpoint in found:
                self.check_loads(checkpoint)
            self.check_kept(promised, found)
            require_sound(store.verify(), harsh=self.harsh)
            with self.open_run(store) as run:
                require_tidy(root, RUN, harsh=self.harsh)
                self._check_resumes(run)
        with holdfast.open(root) as store:
            self.train(store, lambda _: None)
        with holdfast.open(root) as store:
            last = len(self.losses) - 1
            require(store.latest(RUN).step == last, "the training did not come to its end")
            require_sound(store.verify(), harsh=self.harsh)
            for checkpoint in store.checkpoints():
                self.check_loads(checkpoint)
        require_tidy(root, RUN, harsh=self.harsh)

    def check_loads(self, checkpoint: Checkpoint) -> None:
        """Raises `ViolationError` unless it holds, to the bit, what was saved at its step."""
        loaded = checkpoint.load("model")
        wanted = self.arrays(checkpoint.step)
        require(same_arrays(loaded, wanted), f"{checkpoint.id} loads other weights than it saved")
        if not checkpoint.thinned:
            numbers = checkpoint.load("extra")["numbers"]
            require(np.array_equal(numbers, np.arange(5)), f"{checkpoint.id}: extra differs")

    def check_kept(self, promised: Sequence[str], found: Sequence[Checkpoint]) -> None:
        """Raises `ViolationError` unless what the policy keeps of what was promised is there.

        Something newer may have taken its place: a save that was durable when its caller had not
        been told yet.
        """
        steps = sorted(int(line.split()[1]) for line in promised)
        if not steps:
            return
        there = {checkpoint.step: checkpoint for checkpoint in found}
        for step in steps[-2:]:
            newer = [other for other in there if other > step]
            require(step in there or len(newer) >= 2, f"step {step} was promised and is gone")
        newest = max(there, default=-1)
        require(newest >= steps[-1], f"step {steps[-1]} was promised, the newest is {newest}")
        require(not there[newest].thinned, f"the newest, step {newest}, is thinned")
        best = min(steps, key=self.losses.__getitem__)
        better = [step for step in there if self.losses[step] < self.losses[best]]
        require(best in there or better, f"step {best} was the best and is gone")

    def _check_resumes(self, run: Run) -> None:
        weights = Weights(self.arrays(-1))
        run.attach(model=weights, extra={"numbers": np.arange(5)})
        full = [c.step for c in run.checkpoints() if not c.thinned]
        start = run.resume()
        newest = max(full, default=-1)
        require(start == newest + 1, f"resumed at {start}, the newest full step is {newest}")
        require(same_arrays(weights.state, self.arrays(start - 1)), "resumed with other weights")
        require(math.isfinite(float(weights.state["head"][0])), "resumed with NaN")
