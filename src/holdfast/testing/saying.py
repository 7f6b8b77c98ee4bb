"""What is said of checkpoints as scenarios: late words, imports, and reading all of it anew."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

import holdfast
from holdfast import keep
from holdfast.checkpoint import Checkpoint
from holdfast.lifecycle.importing import read_foreign
from holdfast.storage import Posix
from holdfast.storage.faults import FaultyPosix
from holdfast.store import Store
from holdfast.testing.facts import (
    LOSSES,
    Line,
    all_that_is_said,
    grow,
    line_of,
    oldest_first,
    require_loads,
)
from holdfast.testing.scenario import Promise, opened, require, same_arrays
from holdfast.testing.upkeep import ONE, OTHER, TWO, Upkeep


class Reindexing(Upkeep):
    """The catalog is made anew from the files.

    Args:
        lost: Whether it is gone, so that opening the store makes it, too.
    """

    def __init__(self, *, lost: bool = False) -> None:
        self.name = "reindex, catalog lost" if lost else "reindex"
        self._lost = lost

    def prepare(self, root: Path) -> Sequence[str]:
        """Promises all that the store says."""
        with holdfast.open(root) as store:
            for run in (ONE, TWO, OTHER):
                grow(store, run, LOSSES[:4])
            saved = oldest_first(store, ONE)
            saved[0].pin()
            saved[1].tag("prod")
            saved[2].report(val_loss=0.5)
            store.prune(TWO, policy=keep.best(1, "loss").items("model") | keep.latest(1)).apply()
            said = [line_of(c.info) for c in store.checkpoints()]
            said.append(_all_of(store))
        if self._lost:
            for path in root.glob("catalog.sqlite3*"):
                path.unlink()
        return said

    def do(self, store: Store, posix: Posix) -> None:
        """Reads all runs again; a kill may come between any two."""
        if isinstance(posix, FaultyPosix):
            store.reindex(progress=lambda _: posix.reach("reindexing"))
        else:
            store.reindex()

    def check(self, root: Path, promised: Sequence[str]) -> None:
        """Looks, besides, that the store says all that it said."""
        with holdfast.open(root) as store:
            require(_all_of(store) in promised, "the store says other things")
        super().check(root, promised)


def _all_of(store: Store) -> str:
    return f"all: {all_that_is_said(store)!r}"


@dataclass(frozen=True, slots=True)
class _Saying:
    """Something that is said of a checkpoint from outside of its run."""

    text: str
    number: int
    say: Callable[[Checkpoint], None]
    seen: Callable[[Checkpoint], object]
    before: object
    after: object


def _values(*names: str) -> Callable[[Checkpoint], object]:
    return lambda c: tuple(c.metrics.get(name) for name in names)


_SAYINGS: Final = (
    _Saying(
        "two late metrics",
        0,
        lambda c: c.report(val_loss=0.25, eval={"accuracy": 0.75}),
        _values("val_loss", "eval/accuracy"),
        (None, None),
        (0.25, 0.75),
    ),
    _Saying("a pin", 0, lambda c: c.pin(), lambda c: c.pinned, before=False, after=True),
    _Saying(
        "two tags",
        0,
        lambda c: c.tag("prod", "best"),
        lambda c: c.tags,
        (),
        ("best", "prod"),
    ),
    _Saying("a tag less", 1, lambda c: c.untag("draft"), lambda c: c.tags, ("draft",), ()),
    _Saying("no pin", 1, lambda c: c.unpin(), lambda c: c.pinned, before=True, after=False),
    _Saying(
        "another loss", 1, lambda c: c.report(loss=0.125), _values("loss"), (LOSSES[1],), (0.125,)
    ),
)


class Reporting(Upkeep):
    """Late metrics, pins and tags from a process that does not write the run."""

    name = "late words"

    def prepare(self, root: Path) -> Sequence[str]:
        """Makes a run of two checkpoints, of which the second is pinned and tagged."""
        with holdfast.open(root) as store:
            grow(store, ONE, LOSSES[:2])
            saved = oldest_first(store, ONE)[1]
            saved.pin()
            saved.tag("draft")
        return ()

    def act(self, root: Path, posix: Posix, promise: Promise) -> None:
        """Says one thing after another; promises each when it returned."""
        with opened(root, posix) as store:
            for saying in _SAYINGS:
                saying.say(oldest_first(store, ONE)[saying.number])
                promise(saying.text)

    def do(self, store: Store, posix: Posix) -> None:
        """Says everything."""
        del posix
        for saying in _SAYINGS:
            saying.say(oldest_first(store, ONE)[saying.number])

    def check(self, root: Path, promised: Sequence[str]) -> None:
        """Looks, besides, that each thing is there whole, or absent where it was not promised."""
        with holdfast.open(root) as store:
            for saying in _SAYINGS:
                seen = saying.seen(oldest_first(store, ONE)[saying.number])
                allowed = [saying.after]
                if saying.text not in promised:
                    allowed.append(saying.before)
                require(seen in allowed, f"{saying.text}: {seen} instead of {allowed}")
        super().check(root, promised)

    def check_done(self, store: Store, lines: Sequence[Line]) -> None:
        """Raises `ViolationError` unless everything that was said is there."""
        del lines
        for saying in _SAYINGS:
            seen = saying.seen(oldest_first(store, ONE)[saying.number])
            require(seen == saying.after, f"{saying.text}: {seen} instead of {saying.after}")


class Importing(Upkeep):
    """A checkpoint is made out of a safetensors file of another tool."""

    name = "import"
    _file = "incoming.safetensors"

    def prepare(self, root: Path) -> Sequence[str]:
        """Makes a run that shares a tensor with the file; promises its checkpoints."""
        with holdfast.open(root) as store:
            grow(store, OTHER, LOSSES[:2])
            (root / self._file).write_bytes(_plain_file(_incoming()))
            # A framework that it loads is loaded once, and not by every child.
            read_foreign(root / self._file)
            return [line_of(c.info) for c in store.checkpoints()]

    def do(self, store: Store, posix: Posix) -> None:
        """Imports the file."""
        del posix
        store.import_checkpoint(store.path / self._file, run=ONE, step=7)

    def check_loads(self, checkpoint: Checkpoint) -> None:
        """Compares what was imported with the file's tensors."""
        if checkpoint.run != ONE:
            require_loads(checkpoint)
            return
        loaded = {name: np.asarray(array) for name, array in checkpoint.load("model").items()}
        require(same_arrays(loaded, _incoming()), f"{checkpoint.id} differs from the file")
        require(checkpoint.step == 7, f"{checkpoint.id} is of step {checkpoint.step}")

    def check_done(self, store: Store, lines: Sequence[Line]) -> None:
        """Raises `ViolationError` unless the file is a checkpoint."""
        del lines
        require(ONE in store, "the run of the import is missing")
        require(store.checkpoints(ONE), "nothing was imported")


def _incoming() -> dict[str, np.ndarray]:
    return {"encoder": np.ones(20_000, "<f4"), "head": np.arange(64, dtype="<f8")}


def _plain_file(tensors: Mapping[str, np.ndarray]) -> bytes:
    header: dict[str, Any] = {}
    end = 0
    for name, array in tensors.items():
        begin, end = end, end + array.nbytes
        dtype = {"f4": "F32", "f8": "F64"}[array.dtype.str[1:]]
        header[name] = {"dtype": dtype, "shape": [array.size], "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    body = b"".join(array.tobytes() for array in tensors.values())
    return len(text).to_bytes(8, "little") + text + body
