"""Stores that upkeep is done on, and all that they say: what must be the same whatever happens."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

import holdfast
from holdfast import keep, when
from holdfast.checkpoint import Checkpoint
from holdfast.model import CheckpointInfo
from holdfast.run import Run
from holdfast.store import Store
from holdfast.testing.scenario import ViolationError, Weights, require, same_arrays

#: Three losses per run have their best in the middle: what is best is neither first nor newest.
LOSSES: Final = (3.0, 1.0, 2.0, 4.0, 0.5, 5.0)

Line = Mapping[str, Any]


def arrays(run: str, step: int) -> dict[str, np.ndarray]:
    """Returns the weights of a run at a step: most rest, and are the same in every run."""
    head = np.full(64, step + 1000 * sum(run.encode()), "<f8")
    return {"encoder": np.ones(20_000, "<f4"), "head": head}


def grow(store: Store, name: str, losses: Iterable[float]) -> None:
    """Trains a run that keeps everything: a checkpoint per loss."""
    with keeping_all(store, name) as run:
        weights = Weights(arrays(name, 0))
        run.attach(model=weights, extra={"numbers": np.arange(5)})
        for step, loss in enumerate(losses):
            weights.state = arrays(name, step)
            run.step(step, {"loss": loss})
            run.save(step, {"loss": loss}).wait()


def keeping_all(store: Store, name: str) -> Run:
    """Opens a run for writing that keeps everything."""
    run = store.run(name, metric="loss", save=when.never(), keep=keep.all(), config={"lr": 0.1})
    if not isinstance(run, Run):
        raise ViolationError("this process is not the one that writes")
    return run


def oldest_first(store: Store, run: str) -> list[Checkpoint]:
    """Returns the checkpoints of a run in the order of their saves."""
    return store.checkpoints(run, order_by="created_at")


# -- what is promised of a checkpoint ------------------------------------------------------------


def line_of(info: CheckpointInfo, *, items: Sequence[str] | None = None) -> str:
    """Returns what must stay of a checkpoint, as a line of text.

    Args:
        info: The checkpoint.
        items: Names of the items that stay; left out, those that it has.
    """
    return json.dumps(
        {
            "id": info.id,
            "items": sorted(info.items if items is None else items),
            "metrics": {name: repr(value) for name, value in sorted(info.metrics.items())},
            "tags": list(info.tags),
            "pinned": info.pinned,
        }
    )


def lines_among(promised: Iterable[str]) -> list[Line]:
    """Returns the lines that speak of a checkpoint."""
    return [json.loads(line) for line in promised if line.startswith("{")]


def require_kept(store: Store, lines: Iterable[Line]) -> None:
    """Raises `ViolationError` unless each checkpoint is there with all that was said of it."""
    there = {checkpoint.id: checkpoint for checkpoint in store.checkpoints()}
    for line in lines:
        checkpoint = there.get(line["id"])
        require(checkpoint is not None, f"{line['id']} was promised and is gone")
        if checkpoint is None:
            continue
        lost = set(line["items"]) - set(checkpoint.items)
        require(not lost, f"{checkpoint.id} has lost {', '.join(sorted(lost))}")
        now = json.loads(line_of(checkpoint.info, items=line["items"]))
        require(now == line, f"{now} was promised to be {line}")


def require_loads(checkpoint: Checkpoint) -> None:
    """Raises `ViolationError` unless a checkpoint holds, to the bit, what was saved at its step."""
    loaded = checkpoint.load("model")
    wanted = arrays(checkpoint.run, checkpoint.step)
    require(same_arrays(loaded, wanted), f"{checkpoint.id} loads other weights than it saved")
    if "extra" in checkpoint.items:
        numbers = checkpoint.load("extra")["numbers"]
        require(np.array_equal(numbers, np.arange(5)), f"{checkpoint.id}: extra differs")


# -- what a store says ---------------------------------------------------------------------------


def all_that_is_said(store: Store) -> dict[str, Any]:
    """Returns every fact of a store, as plain values that can be compared."""
    said: dict[str, Any] = {}
    for run in store.runs():
        info = run.info
        said[run.name] = {
            "run": (info.status, info.metric, dict(info.config), dict(info.policies)),
            "checkpoints": [line_of(c.info) for c in oldest_first(store, run.name)],
            "steps": [(row.step, repr(dict(row.metrics)), row.saved) for row in run.steps()],
            "decisions": sorted(
                (decision.checkpoint_id or "", decision.step, decision.fate, decision.reason)
                for decision in run.decisions()
            ),
        }
    return said


def require_files_say_the_same(root: Path) -> None:
    """Raises `ViolationError` where the catalog says anything that the files do not."""
    with holdfast.open(root) as store:
        before = all_that_is_said(store)
        store.reindex()
        after = all_that_is_said(store)
    for run in sorted(before.keys() | after.keys()):
        one, other = before.get(run, {}), after.get(run, {})
        for kind in sorted(one.keys() | other.keys()):
            require(
                one.get(kind) == other.get(kind),
                f"the {kind} of {run} changed by reading the files again: "
                f"{one.get(kind)} became {other.get(kind)}",
            )
