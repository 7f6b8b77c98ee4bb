"""A finished store that has one of everything, and what it holds to the bit."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from blake3 import blake3

import holdfast
from holdfast import keep, when
from holdfast.checkpoint import Checkpoint
from holdfast.engine import names
from holdfast.engine.journal import Journal, Record
from holdfast.run import Run
from holdfast.storage import LocalStorage
from holdfast.store import Store
from holdfast.testing.scenario import Weights
from holdfast.testing.training import RUN, Training

_WIDE: Final = "wide"
#: The catalog is an index that is rebuilt, and a lock says who writes a run: no fact lies in them.
_NO_FACTS: Final = ("catalog.sqlite3", names.LOCK)


@dataclass(frozen=True, slots=True)
class Held:
    """What one checkpoint holds.

    Attributes:
        run: Its run.
        step: Its step.
        full: Whether training can go on from it.
        items: Item name to the digest of what it loads as.
        said: Its metrics, tags and whether it is pinned, as text.
        files: File in its folder to what it is: a device and inode number.
    """

    run: str
    step: int
    full: bool
    items: Mapping[str, str]
    said: str
    files: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished store and what it holds.

    Attributes:
        root: Its folder.
        store_id: Its id.
        held: Checkpoint id to what it holds, oldest first.
        journals: Run to the lines of its journal.
        older: Path of a manifest to the bytes of its earlier generation.
    """

    root: Path
    store_id: str
    held: Mapping[str, Held]
    journals: Mapping[str, Sequence[Record]]
    older: Mapping[str, bytes]

    def files(self) -> list[str]:
        """Returns the paths of all files with facts, relative to the store, one per inode.

        A shard is there under the name that its oldest checkpoint has for it.
        """
        seen: dict[int, str] = {}
        for path in sorted(self.root.rglob("*")):
            known = path.name.startswith(_NO_FACTS)
            if path.is_file() and not known and path.relative_to(self.root).parts[0] != "shards":
                seen.setdefault(path.stat().st_ino, str(path.relative_to(self.root)))
        return list(seen.values())

    def holders(self, path: str) -> list[str]:
        """Returns the ids of the checkpoints that a file belongs to."""
        inode = (self.root / path).stat().st_ino
        return [i for i, held in self.held.items() if inode in held.files.values()]

    def owners(self, path: str) -> tuple[frozenset[str], frozenset[str]]:
        """Returns the checkpoints that a file belongs to, and the run whose journal it is."""
        parts = path.split("/")
        runs = frozenset({names.run_of_folder(parts[1])} if len(parts) == 3 else ())
        return frozenset(self.holders(path)), runs

    def journal_of(self, run: str) -> str:
        """Returns the path of a run's journal."""
        return f"{names.folder_of_run(run)}/{names.JOURNAL}"

    def newest_full(self, run: str, *, without: frozenset[str] = frozenset()) -> str:
        """Returns the id that training goes on from; empty where there is none.

        Args:
            run: The run.
            without: Ids that are damaged.
        """
        intact = [i for i, h in self.held.items() if h.run == run and h.full and i not in without]
        return max(intact, key=lambda i: self.held[i].step, default="")


def finish(root: Path) -> Finished:
    """Makes a store: two runs, shared shards, an index, a thinned checkpoint, tags, pins, reports.

    Args:
        root: A folder that does not exist yet.
    """
    older: dict[str, bytes] = {}

    def remember(_: str) -> None:
        for path in root.glob(f"runs/*/*/{names.MANIFEST}"):
            older.setdefault(str(path.relative_to(root)), path.read_bytes())

    with holdfast.open(root) as store:
        _training().train(store, remember)
        _train_wide(store)
        _speak(store)
    return _look(root, older)


def open_again(store: Store, run: str) -> tuple[Run, dict[str, Any]]:
    """Opens one of its runs for writing, with fresh objects attached; returns both."""
    if run == RUN:
        training = _training()
        objects: dict[str, Any] = {
            "model": Weights(training.arrays(-1)),
            "extra": {"numbers": np.zeros(5, "<i8")},
        }
        opened = training.open_run(store)
    else:
        objects = {"model": _wide(-1)}
        opened = _open_wide(store)
    opened.attach(**objects)
    return opened, objects


def state_of(live: Any) -> Any:
    """Returns the state of an object that was attached by `open_again`."""
    return live.state_dict() if isinstance(live, Weights) else live


def digest_of(state: Any) -> str:
    """Returns a digest of a state: equal for states that are the same to the bit."""
    hasher = blake3()
    _feed(hasher, state)
    return hasher.hexdigest()


def said_of(checkpoint: Checkpoint) -> str:
    """Returns metrics, tags and pin of a checkpoint as text."""
    return repr((sorted(checkpoint.metrics.items()), checkpoint.tags, checkpoint.pinned))


def _feed(hasher: blake3, state: Any) -> None:
    if isinstance(state, Mapping):
        for name in sorted(state, key=repr):
            hasher.update(f"{name!r}:".encode())
            _feed(hasher, state[name])
    elif isinstance(state, (list, tuple)):
        hasher.update(f"{type(state).__name__}{len(state)}".encode())
        for inner in state:
            _feed(hasher, inner)
    elif isinstance(state, (np.ndarray, np.generic)):
        hasher.update(f"{state.dtype.str}{state.shape}".encode())
        hasher.update(state.tobytes())
    else:
        hasher.update(repr(state).encode())
    hasher.update(b";")


# -- the two runs ------------------------------------------------------------------------------


def _training() -> Training:
    # The second is the best for ever, so it ends up thinned; the two last stay in full.
    return Training(losses=(3.0, 0.5, 2.0, 4.0, 1.0))


def _wide(step: int) -> dict[str, Any]:
    """Returns a state with two names for one array, an empty array, and equal lengths at all."""
    table = np.arange(600, dtype="<f4") + step
    return {
        "table": table,
        "tied": table,
        "counts": {"seen": np.full(7, step, "<i2"), "none": np.zeros((0, 3), "<f8")},
        "lr": 0.1,
    }


def _open_wide(store: Store) -> Run:
    run = store.run(_WIDE, metric="loss", save=when.never(), keep=keep.all(), config={"lr": 0.1})
    if not isinstance(run, Run):
        raise TypeError("this process is not the one that writes")
    return run


def _train_wide(store: Store) -> None:
    with _open_wide(store) as run:
        state = _wide(0)
        run.attach(model=state)
        for step in range(3):
            fresh = _wide(step)
            state["table"][:] = fresh["table"]
            state["counts"]["seen"][:] = step
            saved = run.save(step, {"loss": 1.0 / (step + 1)}, metadata={"note": "ü"}).wait()
            saved.tag(f"step-{step}")


def _speak(store: Store) -> None:
    """Says things that no manifest holds, after the last of them."""
    for number, checkpoint in enumerate(store.checkpoints(order_by="created_at")):
        if number % 2:
            checkpoint.pin()
        checkpoint.tag("prod", f"number-{number}")
        checkpoint.report(val_loss=0.25 * number)


# -- what it holds -----------------------------------------------------------------------------


def _look(root: Path, older: Mapping[str, bytes]) -> Finished:
    with holdfast.open(root, mode="r") as store:
        held = {c.id: _held(c) for c in store.checkpoints(order_by="created_at")}
        runs, store_id = [run.name for run in store.runs()], store.id
    journals = {}
    for run in runs:
        path = f"{names.folder_of_run(run)}/{names.JOURNAL}"
        journals[run] = Journal(LocalStorage(root), path).read().records
    gone = {
        path: data
        for path, data in older.items()
        if (root / path).exists() and (root / path).read_bytes() != data
    }
    return Finished(root, store_id, held, journals, gone)


def _held(checkpoint: Checkpoint) -> Held:
    with os.scandir(checkpoint.path) as entries:
        files = {entry.name: entry.inode() for entry in entries}
    return Held(
        run=checkpoint.run,
        step=checkpoint.step,
        full=checkpoint.kind == "full" and not checkpoint.thinned,
        items={item: digest_of(checkpoint.load(item)) for item in checkpoint.items},
        said=said_of(checkpoint),
        files=files,
    )
