"""What must hold of a damaged store: the damage is found, and nothing loads silently wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import holdfast
from holdfast.checkpoint import Checkpoint
from holdfast.engine import names
from holdfast.engine.journal import Journal, Record
from holdfast.errors import FormatError, HoldfastError, IntegrityError, NotFoundError
from holdfast.storage import LocalStorage
from holdfast.store import Store
from holdfast.testing.finished import Finished, digest_of, open_again, said_of, state_of
from holdfast.testing.scenario import ViolationError, require

#: What reading a damaged file may raise.
_EXPECTED = (IntegrityError, FormatError, NotFoundError)
#: Every so many looks the store is asked, at the others the checkpoint, which reads the same.
_STORE_EVERY: Final = 4


class Glance:
    """A quick look, made thousands of times: what a file belongs to is verified and loaded.

    Args:
        finished: The store as it was.
        root: A copy of it, of which one file is damaged.
    """

    def __init__(self, finished: Finished, root: Path) -> None:
        self._finished = finished
        self._root = root
        self._store = holdfast.open(root, mode="r")
        self._looks = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._store.close()

    def require_found(self, path: str) -> None:
        """Raises `ViolationError` where damage of a file is not found, or is loaded."""
        if path == names.STORE_FILE:
            _require_refused(self._root)
            return
        folder = path.split("/")[1]
        if path.endswith(names.JOURNAL):
            self._require_journal_found(names.run_of_folder(folder))
            return
        holders = self._finished.holders(path)
        self._looks += 1
        chosen = holders[self._looks % len(holders)]
        checkpoint = Checkpoint(self._store._place, self._record(chosen))
        if self._looks % _STORE_EVERY == 0:
            found = set(self._store.verify(chosen).damaged)
            require(found == set(holders), f"{sorted(found)} are called damaged, not {holders}")
        else:
            _require_called_damaged(checkpoint)
        held = self._finished.held[chosen]
        file = next(name for name, inode in held.files.items() if inode == self._inode(path))
        for item in held.items:
            if file == names.MANIFEST or file.startswith(f"{item}.") or f"{item}-" in file:
                _require_refused_or_same(checkpoint, item, held.items[item])

    def _require_journal_found(self, run: str) -> None:
        newest = self._finished.newest_full(run)
        reported = run in self._store.verify(newest).journals
        require_not_misread(self._finished, self._root, run, may_lack=reported)

    def _record(self, checkpoint_id: str) -> Any:
        return self._store._place.catalog.get(checkpoint_id)

    def _inode(self, path: str) -> int:
        return (self._finished.root / path).stat().st_ino


def _require_called_damaged(checkpoint: Checkpoint) -> None:
    try:
        checkpoint.verify()
    except _EXPECTED:
        return
    raise ViolationError(f"verification does not find it in {checkpoint.id}")


def require_found(
    finished: Finished, root: Path, damaged: frozenset[str], journals: frozenset[str]
) -> None:
    """Opens a damaged store as the next process would: verifies, loads, looks, resumes.

    Args:
        finished: The store as it was.
        root: The damaged copy.
        damaged: Ids of the checkpoints that the damage belongs to.
        journals: Runs whose journal it belongs to.

    Raises:
        ViolationError: The damage is not found, something else is called damaged, something loads
            other than it was, or training goes on from the wrong checkpoint.
    """
    path = root / names.STORE_FILE
    if path.exists() and not _same_file(path, finished.root / names.STORE_FILE):
        _require_refused(root)
        with holdfast.open(root, mode="r") as store:
            _require_loads(finished, store, damaged, frozenset())
        return
    with holdfast.open(root) as store:
        found = store.verify()
        require(
            set(found.damaged) == damaged,
            f"verification calls {sorted(found.damaged)} damaged instead of {sorted(damaged)}",
        )
        for run in finished.journals:
            reported = run in found.journals
            require(not reported or run in journals, f"the journal of {run} is called damaged")
            # What is lost at its end and known to the catalog is said again: looked at below.
            require_not_misread(finished, root, run, may_lack=reported or run in journals)
        _require_loads(finished, store, damaged, frozenset(found.journals))
    for run in finished.journals:
        with holdfast.open(root) as store:
            _require_resumes(finished, store, run, damaged)


def require_not_misread(finished: Finished, root: Path, run: str, *, may_lack: bool) -> None:
    """Raises `ViolationError` where a journal says what it did not say, or has lost it silently.

    Args:
        finished: The store as it was.
        root: The damaged copy.
        run: The run.
        may_lack: Whether lines may be missing.
    """
    try:
        said = Journal(LocalStorage(root), finished.journal_of(run)).read().records
    except _EXPECTED:
        said = ()
    before = finished.journals[run]
    # What is said since, verifications and openings, comes behind it.
    old = [record for record in said if record in before]
    require(follow(old, before), f"the journal of {run} says what it did not say")
    require(may_lack or len(old) == len(before), f"the journal of {run} lost lines silently")


def follow(some: Sequence[Record], all_of_them: Sequence[Record]) -> bool:
    """Returns whether some lines are among others, in their order."""
    rest = iter(all_of_them)
    return all(any(record == other for other in rest) for record in some)


def _require_refused(root: Path) -> None:
    try:
        holdfast.open(root).close()
    except (IntegrityError, FormatError) as error:
        require(error.hint, "the refusal does not say what to do")
    else:
        raise ViolationError(f"a damaged {names.STORE_FILE} is taken as it is")


def _require_loads(
    finished: Finished, store: Store, damaged: frozenset[str], unsure: frozenset[str]
) -> None:
    there = {checkpoint.id: checkpoint for checkpoint in store.checkpoints()}
    require(there.keys() <= finished.held.keys(), "there are checkpoints that never were")
    for checkpoint_id, held in finished.held.items():
        checkpoint = there.get(checkpoint_id)
        if checkpoint is None:
            require(checkpoint_id in damaged, f"{checkpoint_id} is sound and not listed")
            continue
        for item, digest in held.items.items():
            if checkpoint_id in damaged:
                _require_refused_or_same(checkpoint, item, digest)
            else:
                same = digest_of(checkpoint.load(item)) == digest
                require(same, f"{checkpoint_id} loads another {item} than it saved")
        if held.run not in unsure and checkpoint_id not in damaged:
            said = said_of(checkpoint)
            require(said == held.said, f"{checkpoint_id}: {said} instead of {held.said}")


def _require_refused_or_same(checkpoint: Checkpoint, item: str, digest: str) -> None:
    try:
        loaded = checkpoint.load(item)
    except _EXPECTED:
        return
    same = digest_of(loaded) == digest
    require(same, f"{checkpoint.id} silently loads another {item} than it saved")


def _require_resumes(finished: Finished, store: Store, run: str, damaged: frozenset[str]) -> None:
    journal = finished.journal_of(run)
    try:
        opened, objects = open_again(store, run)
    except FormatError as error:
        # A folder in its place: whoever removes it trains on.
        require((store.path / journal).is_dir() and error.hint, f"{run} does not open: {error}")
        return
    with opened:
        wanted = finished.newest_full(run, without=damaged)
        try:
            start = opened.resume()
        except HoldfastError as error:
            raise ViolationError(f"{run} does not resume: {error}") from error
        if not wanted:
            require(start == 0, f"{run} resumes at {start} with nothing intact")
            return
        held = finished.held[wanted]
        require(start == held.step + 1, f"{run} resumes at {start} instead of {held.step + 1}")
        for item, live in objects.items():
            same = digest_of(state_of(live)) == held.items[item]
            require(same, f"{run} resumes with another {item} than {wanted} saved")


def _same_file(one: Path, other: Path) -> bool:
    return one.is_file() and one.read_bytes() == other.read_bytes()
