"""Half-done states as scenarios: what a repair, or the next training, finds and sets right."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NoReturn

import numpy as np

import holdfast
from holdfast import keep
from holdfast.checkpoint import Checkpoint
from holdfast.engine import names
from holdfast.errors import HoldfastError
from holdfast.storage import Posix
from holdfast.storage.faults import Fault, FaultyPosix
from holdfast.store import Store
from holdfast.testing.disturbing import KILLED, in_child
from holdfast.testing.facts import (
    LOSSES,
    Line,
    arrays,
    grow,
    keeping_all,
    line_of,
    oldest_first,
    require_loads,
)
from holdfast.testing.scenario import ViolationError, Weights, opened, require
from holdfast.testing.training import RUN, Training
from holdfast.testing.upkeep import ONE, OTHER, TWO, Upkeep

_CLEAN_UP: Final = keep.best(1, "loss").items("model") | keep.latest(2)
#: A shard's header is padded to this length; what is less is no shard at all.
_NOBODYS: Final = "ab" + "0" * 62


def leave_half_done(work: Callable[[Posix], None], fault: Fault) -> None:
    """Does something in a child that ends at a call, as a killed process leaves it.

    Raises:
        ViolationError: It did not end there.
    """

    def die(name: str) -> NoReturn:
        del name
        os._exit(KILLED)

    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told"
        status = in_child(lambda: work(FaultyPosix(fault, crash=die)), told)
        said = told.read_text() if told.exists() else ""
    if status != KILLED:
        raise ViolationError(f"the work to be interrupted ended with status {status}: {said}")


class Repairing(Upkeep):
    """A store with something of everything that can be left behind is repaired."""

    name = "repair"

    def prepare(self, root: Path) -> Sequence[str]:
        """Leaves things behind; promises every checkpoint that nobody decided to delete."""
        with holdfast.open(root) as store:
            for run in (ONE, TWO, OTHER):
                grow(store, run, LOSSES[:4])
            oldest_first(store, ONE)[2].pin()
            plan = store.prune(TWO, policy=_CLEAN_UP)
            lines = [line_of(info, items=plan.remaining.get(info.id)) for info in plan.kept]
            lines += [line_of(c.info) for run in (ONE, OTHER) for c in oldest_first(store, run)]
        leave_half_done(
            lambda posix: _clean_up(root, posix, TWO), Fault(4, calls=("unlink", "rmdir"))
        )
        leave_half_done(lambda posix: _save_one_more(root, posix), Fault(2, calls=("rename",)))
        with holdfast.open(root) as store:
            saved = oldest_first(store, ONE)
            (saved[0].path / ".tmp-model.safetensors-1-2-3").write_bytes(b"half")
            (saved[0].path / "old.safetensors").write_bytes(b"of a manifest before this one")
            _lose_a_name(saved[1])
        (root / "runs" / "other" / ".tmp-journal.jsonl-1-2-3").write_bytes(b"half")
        (root / ".tmp-holdfast.json-1-2-3").write_bytes(b"half")
        shared = root / names.shard_path(_NOBODYS)
        shared.parent.mkdir(exist_ok=True)
        shared.write_bytes(b"nobody's")
        (shared.parent / ".tmp-shard-1-2-3").write_bytes(b"half")
        return lines

    def do(self, store: Store, posix: Posix) -> None:
        """Sets everything right."""
        del posix
        done = store.repair(apply=True)
        if not done.ok:
            raise HoldfastError(f"not set right: {done.left}", hint="see what each one says")

    def check_loads(self, checkpoint: Checkpoint) -> None:
        """Leaves to the repair what cannot be read: it must be told, and never be wrong."""
        try:
            require_loads(checkpoint)
        except (HoldfastError, FileNotFoundError):
            step = checkpoint.step
            require((checkpoint.run, step) == (ONE, 1), f"{checkpoint.id} does not load")

    def check_done(self, store: Store, lines: Sequence[Line]) -> None:
        """Looks, besides, that the one that had lost a file has it again."""
        super().check_done(store, lines)
        for checkpoint in store.checkpoints():
            require_loads(checkpoint)


class Recovering(Training):
    """A training goes on that was killed in the middle of a save, and of a clean-up before it."""

    def __init__(self) -> None:
        super().__init__(losses=(3.0, 2.5, 1.0, 2.0, 4.0, 0.5, 0.75))
        self.name = "recovery"

    def prepare(self, root: Path) -> Sequence[str]:
        """Trains, keeping everything, up to a kill; then a clean-up is killed, too."""
        promised: list[str] = []
        with holdfast.open(root) as store:
            self._keep_everything(store, self.losses[:5], promised.append)
        leave_half_done(
            lambda posix: self._save_at_a_call(root, posix), Fault(3, calls=("rename",))
        )
        leave_half_done(lambda posix: _clean_up(root, posix, RUN), Fault(2, calls=("unlink",)))
        return promised

    def _save_at_a_call(self, root: Path, posix: Posix) -> None:
        with opened(root, posix) as store:
            self._keep_everything(store, self.losses, lambda _: None)

    def _keep_everything(
        self, store: Store, losses: Sequence[float], promise: Callable[[str], None]
    ) -> None:
        with keeping_all(store, RUN) as run:
            weights = Weights(self.arrays(-1))
            run.attach(model=weights, extra={"numbers": np.arange(5)})
            for step in range(run.resume(), len(losses)):
                weights.state = self.arrays(step)
                checkpoint = run.save(step, {"loss": losses[step]}).wait()
                promise(f"{checkpoint.id} {step}")


def _clean_up(root: Path, posix: Posix, run: str) -> None:
    with opened(root, posix) as store:
        store.prune(run, policy=_CLEAN_UP).apply()


def _save_one_more(root: Path, posix: Posix) -> None:
    with opened(root, posix) as store, keeping_all(store, ONE) as run:
        weights = Weights(arrays(ONE, 0))
        run.attach(model=weights, extra={"numbers": np.arange(5)})
        step = run.resume()
        weights.state = arrays(ONE, step)
        run.save(step, {"loss": 9.0}).wait()


def _lose_a_name(checkpoint: Checkpoint) -> None:
    """Takes a file out of a checkpoint's folder; its second name under shards/ stays."""
    for path in sorted(checkpoint.path.glob("*.safetensors")):
        if path.stat().st_nlink == 2:
            path.unlink()
            return
    raise ViolationError(f"{checkpoint.id} has no shard of its own")
