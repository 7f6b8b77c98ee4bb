"""Recorded replay: what a power cut could have left at any moment, recovered and checked.

A piece of work is done once, with every change written down. Then each moment of it is taken for
the last one, and of all that was not synced by then, parts are lost or torn (see `disk`).
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from holdfast.storage.recording import Data, Mark, Operation, RecordingPosix
from holdfast.testing.disk import Disk, Image, Kept, Torn
from holdfast.testing.disturbing import judged
from holdfast.testing.outcome import Outcome, Progress, Tally
from holdfast.testing.scenario import Scenario

_CATALOG: Final = "catalog.sqlite3"
#: Neither goes through the recorded calls; neither is the only copy of a fact.
_UNRECORDED: Final = (_CATALOG, "lock")
_SECTOR: Final = 512
_SAMPLES: Final = 3


def replays(
    scenario: Scenario,
    folder: Path,
    *,
    scratch: Path | None = None,
    stride: int = 1,
    seed: int = 1,
    progress: Progress = lambda a, b: None,
) -> Outcome:
    """Recovers from what a power cut could have left at any moment of a piece of work.

    Args:
        scenario: The work.
        folder: An empty folder, on the medium that is to be proven: the work is recorded there.
        scratch: An empty folder for the states that are recovered; a fast medium will do. Left
            out, one in `folder`.
        stride: Every how many operations; those that promise something are taken each time.
        seed: What is left to chance.
        progress: See `Tally`.
    """
    root, place = folder / "store", scratch or folder / "states"
    tally = Tally("power cut, replayed", scenario.name, progress)
    recording = _record(scenario, root)
    scenario.harsh = True
    chance = random.Random(seed)  # noqa: S311 - reproducible, not secret
    disk, promised, seen = Disk(recording.start), list(recording.promised), set[bytes]()
    tally.total = 8 * len(recording.operations) // stride
    for number, operation in enumerate(recording.operations):
        disk.do(number, operation)
        if isinstance(operation, Mark):
            promised.append(operation.text)
        # The moment of a promise is never left out: what it says must hold from there on.
        if number % stride and not isinstance(operation, Mark):
            continue
        for kind, kept in _crashes(disk, chance):
            image = disk.after_crash(kept)
            digest = image.digest(str(root))
            if digest in seen:
                continue
            seen.add(digest)
            target = place / "store"
            shutil.rmtree(target, ignore_errors=True)
            image.write(str(root), target)
            catalog = recording.put_catalog(number, target, chance)
            wrong = judged(partial(scenario.check, target, tuple(promised)))
            where = f"after operation {number} ({_shown(operation, root)}), {kind}"
            tally.add(kind, wrong and f"{where}, catalog {catalog}: {wrong}")
    return tally.outcome()


class _Recording:
    """What was done, and what the catalog was at each moment."""

    def __init__(self, start: Image, promised: list[str]) -> None:
        self.start = start
        self.promised = promised
        self.operations: list[Operation] = []
        self._catalogs: list[tuple[int, dict[str, bytes]]] = []

    def note_catalog(self, root: Path, number: int) -> None:
        """Takes a copy of the catalog's files as they are after an operation."""
        names = (_CATALOG, f"{_CATALOG}-wal")
        found = {name: _content(root / name) for name in names if (root / name).exists()}
        if found and (not self._catalogs or self._catalogs[-1][1] != found):
            self._catalogs.append((number, found))

    def put_catalog(self, number: int, target: Path, chance: random.Random) -> str:
        """Puts a catalog into a state: none, the one of the moment, or an older one."""
        past = [files for moment, files in self._catalogs if moment <= number]
        kind = chance.choice(("missing", "current", "older")) if past else "missing"
        if kind == "missing" or not target.exists():
            return "missing"
        files = past[-1] if kind == "current" else chance.choice(past)
        for name, content in files.items():
            (target / name).write_bytes(content)
        return kind


def _record(scenario: Scenario, root: Path) -> _Recording:
    promised = list(scenario.prepare(root))
    start, known = Image.read(root, without=_UNRECORDED)
    recording = _Recording(start, promised)
    posix = _Watched(known, lambda count: recording.note_catalog(root, count - 1))
    scenario.act(root, posix, posix.mark)
    recording.operations = posix.operations
    return recording


class _Watched(RecordingPosix):
    """Tells of each sync and each mark: the catalog is written between them."""

    def __init__(self, known: dict[str, int], tell: Callable[[int], None]) -> None:
        super().__init__(known)
        self._tell = tell

    def mark(self, text: str) -> None:
        super().mark(text)
        self._told()

    def fsync(self, fd: int) -> None:
        super().fsync(fd)
        self._told()

    def unlink(self, path: str) -> None:
        super().unlink(path)
        self._told()

    def _told(self) -> None:
        self._tell(len(self.operations))


def _crashes(disk: Disk, chance: random.Random) -> Iterator[tuple[str, Kept]]:
    """Yields what may be kept of the pending operations, and a word for it."""
    pending = list(disk.pending)
    every: Kept = dict.fromkeys(pending)
    yield "all kept", every
    yield "all lost", {}
    for number in pending:
        yield "one lost", {other: None for other in pending if other != number}
        yield "one kept", {number: None}
        operation = disk.pending[number]
        if isinstance(operation, Data) and operation.data and len(operation.data) > _SECTOR:
            yield "torn", {**every, number: _torn(len(operation.data), chance)}
        elif isinstance(operation, Data) and operation.data:
            # A short write goes into one sector, or two: cut anywhere.
            cut = chance.randrange(len(operation.data))
            yield "torn", {**every, number: Torn(0, cut)}
    for _ in range(_SAMPLES if len(pending) > 2 else 0):
        yield "some kept", {number: None for number in pending if chance.random() < 0.5}


def _torn(nbytes: int, chance: random.Random) -> Torn:
    sectors = -(-nbytes // _SECTOR)
    cut = chance.randrange(1, sectors) * _SECTOR
    # Sectors may come to the medium in any order.
    return chance.choice((Torn(0, cut), Torn(cut, nbytes)))


def _shown(operation: Operation, root: Path) -> str:
    if isinstance(operation, Data):
        return f"write to file {operation.file}"
    return str(operation).replace(f"{root}/", "")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
