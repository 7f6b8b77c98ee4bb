"""Reading whole stores in full: each shard once, and so that it can be interrupted and go on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from holdfast.engine import names
from holdfast.engine.manifest import Manifest
from holdfast.engine.scanning import MAX_OPEN, Pace, shard_files
from holdfast.errors import HoldfastError, NotFoundError
from holdfast.lifecycle import checking
from holdfast.lifecycle.history import RunHistory
from holdfast.lifecycle.place import Place
from holdfast.lifecycle.readonce import ShardReader
from holdfast.lifecycle.remembering import remember
from holdfast.lifecycle.verification import Verification
from holdfast.model import CheckpointRecord

_log = logging.getLogger("holdfast")

#: Checkpoints that are read together have so many bytes, or so many files, between them.
_TOGETHER_NBYTES: Final = 64 << 20
#: What was verified is noted when so much of it has come together, or so much time has passed.
_NOTED_AT_ONCE: Final = 500
_NOTED_EVERY_S: Final = 5.0

Progress = Callable[[int], None]


def verify(
    place: Place,
    target: str | None,
    *,
    since: float | None = None,
    pace: Pace | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Reads checkpoints in full and compares every digest.

    Where the place is writable, what is found is noted: in the run's journal as ``damaged``,
    ``healthy`` or ``verified``, and in the catalog. Damaged shards are taken out of reach of
    later saves.

    Args:
        place: The store.
        target: A run's name or a checkpoint's id; None for the whole store.
        since: Checkpoints that were verified at or after this moment are left out; seconds since
            the epoch.
        pace: Bounds the rate of reading.
        progress: Called with bytes of shard files as they are read; `nbytes_to_read` says how
            many.

    Raises:
        NotFoundError: There is no such checkpoint or run.
    """
    runs, only = _scope(place, target)
    work = _Verifying(
        place, since, ShardReader(place.storage, progress=progress or _ignore, pace=pace)
    )
    try:
        for some in _together(work.entries(runs, only)):
            work.take(some)
    finally:
        # Also when it is interrupted: the next one need not read this again.
        work.note_verified()
    if only is not None and not work.checked and not work.skipped:
        raise NotFoundError(
            f"there is no checkpoint {only!r}", hint="`holdfast ls` lists what there is"
        )
    work.spread()
    return work.result()


def nbytes_to_read(place: Place, target: str | None, *, since: float | None = None) -> int:
    """Returns the bytes of shard files that `verify` is going to read, as the catalog knows them.

    In a copy of a store that gave each checkpoint files of its own, more is read.
    """
    runs, only = _scope(place, target)
    shared = place.links or (place.capabilities is None and bool(place.storage.folders("shards")))
    files: dict[tuple[str, str], int] = {}
    for name in runs:
        history = RunHistory(place.journal(name))
        if since is not None:
            history.refresh()
        for record in place.catalog.checkpoints(name):
            known = only in (None, record.info.id)
            if known and not _is_recent(place, record.info.id, history, record, since):
                for shard, nbytes in record.info.shards.items():
                    files["" if shared else record.info.id, shard] = nbytes
    return sum(files.values())


def _is_recent(
    place: Place,
    checkpoint_id: str,
    history: RunHistory,
    record: CheckpointRecord | None,
    since: float | None,
) -> bool:
    """Returns whether a checkpoint was verified since, and nothing speaks against it."""
    if since is None or history.verified.get(checkpoint_id, -1.0) < since:
        return False
    damaged = record is not None and record.info.damaged
    return not damaged and place.has_manifest(names.run_of_id(checkpoint_id), checkpoint_id)


def _scope(place: Place, target: str | None) -> tuple[list[str], str | None]:
    """Returns the runs to look at, and the one checkpoint, where it is one."""
    known = place.run_names()
    if target is None:
        return known, None
    if target in known:
        return [target], None
    if names.is_id(target):
        return [names.run_of_id(target)], target
    raise NotFoundError(
        f"{place.label} has no run and no checkpoint {target!r}",
        hint="`holdfast runs` lists what there is",
    )


@dataclass(slots=True)
class _Run:
    """A run whose checkpoints are being read."""

    name: str
    history: RunHistory
    relied_on: int = 0
    sound: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A checkpoint to read; without an id, the end of its run.

    Attributes:
        run: Its run.
        checkpoint_id: Its id.
        manifest: Its manifest, where that can be read.
        trusted: Whether the catalog knows it, and not as damaged.
    """

    run: _Run
    checkpoint_id: str = ""
    manifest: Manifest | None = None
    trusted: bool = False


def _together(entries: Iterator[_Entry]) -> Iterator[Sequence[_Entry]]:
    """Yields checkpoints that are read at once: many small ones keep all threads busy."""
    some: list[_Entry] = []
    nbytes = files = 0
    for entry in entries:
        some.append(entry)
        for shard in shard_files(entry.manifest).values() if entry.manifest else ():
            nbytes += shard.nbytes
            files += 1
        if nbytes >= _TOGETHER_NBYTES or files >= MAX_OPEN or len(some) >= MAX_OPEN:
            yield some
            some, nbytes, files = [], 0, 0
    if some:
        yield some


class _Verifying:
    """A verification under way."""

    def __init__(self, place: Place, since: float | None, shards: ShardReader) -> None:
        self._place = place
        self._since = since
        self._shards = shards
        self._open: dict[str, _Run] = {}
        self._noted_at = time.monotonic()
        self._damaged: dict[str, tuple[str, ...]] = {}
        self._unread: dict[str, tuple[str, ...]] = {}
        self._journals: dict[str, tuple[str, ...]] = {}
        self._strays: dict[str, tuple[str, ...]] = {}
        self.checked: list[str] = []
        self.skipped: list[str] = []

    def result(self) -> Verification:
        return Verification(
            checked=tuple(self.checked),
            damaged=self._damaged,
            nbytes=self._shards.nbytes,
            journals=self._journals,
            strays=self._strays,
            skipped=tuple(self.skipped),
            files=self._shards.files,
            unread=self._unread,
        )

    # -- what to read -----------------------------------------------------------------------

    def entries(self, runs: Sequence[str], only: str | None) -> Iterator[_Entry]:
        """Yields the checkpoints to read, run by run, each run with an end."""
        for name in runs:
            run = _Run(name, RunHistory(self._place.journal(name)).refresh_readable())
            self._open[name] = run
            known = (
                {r.info.id: r for r in self._place.catalog.checkpoints(name)} if not only else {}
            )
            every = [only] if only else sorted({*self._place.checkpoint_ids(name), *known})
            for checkpoint_id in every:
                record = known.get(checkpoint_id)
                if _is_recent(self._place, checkpoint_id, run.history, record, self._since):
                    self.skipped.append(checkpoint_id)
                    continue
                trusted = record is not None and not record.info.damaged
                yield _Entry(run, checkpoint_id, self._manifest(checkpoint_id), trusted)
            yield _Entry(run)

    def _manifest(self, checkpoint_id: str) -> Manifest | None:
        try:
            return self._place.manifest(checkpoint_id)
        except HoldfastError:
            # What is wrong with it is said when its turn comes.
            return None

    # -- reading ----------------------------------------------------------------------------

    def take(self, entries: Sequence[_Entry]) -> None:
        """Reads checkpoints together, and takes down what was found of each."""
        self._shards.read(entry.manifest for entry in entries if entry.manifest is not None)
        for entry in entries:
            if entry.checkpoint_id:
                self._judge(entry)
            else:
                self._finish(entry.run)
        full = sum(len(run.sound) for run in self._open.values()) >= _NOTED_AT_ONCE
        if full or time.monotonic() >= self._noted_at + _NOTED_EVERY_S:
            self.note_verified()

    def _judge(self, entry: _Entry) -> None:
        run, checkpoint_id = entry.run, entry.checkpoint_id
        found = checking.inspect(
            self._place,
            run.name,
            checkpoint_id,
            progress=_ignore,
            shards=self._shards,
            first=entry.manifest,
        )
        if found is None:
            if not checking.is_lost(self._place, run.name, checkpoint_id, run.history):
                return
            folder = names.folder_of_checkpoint(run.name, checkpoint_id)
            found = checking.Inspection(None, (f"{folder}/{names.MANIFEST} is missing",))
        self.checked.append(checkpoint_id)
        if found.manifest is not None:
            run.relied_on = max(run.relied_on, found.manifest.journal_nbytes)
        if found.strays:
            self._strays[checkpoint_id] = found.strays
        if found.unread:
            self._unread[checkpoint_id] = found.unread
        if found.damage:
            self._damaged[checkpoint_id] = found.damage
        elif not found.unread and checkpoint_id not in run.history.damaged:
            # One that was damaged and is sound again gets a line of its own.
            run.sound.append(checkpoint_id)
        if found.damage or not entry.trusted or checkpoint_id in run.history.damaged:
            checking.settle(self._place, run.name, checkpoint_id, found, run.history)

    def _finish(self, run: _Run) -> None:
        journal = self._place.journal(run.name)
        # Again: a running training appends before it saves. Behind its end there are no lines.
        end = run.history.refresh_readable().nbytes
        remember(self._place, run.name, run.history)
        damage = list(run.history.damage)
        if end < run.relied_on:
            damage.append(
                f"{journal.path} has {end} sound bytes, a checkpoint relies on {run.relied_on}: "
                "it was cut"
            )
        if damage:
            self._journals[run.name] = tuple(damage)
        self._note(run)
        self._open.pop(run.name, None)

    # -- noting it --------------------------------------------------------------------------

    def note_verified(self) -> None:
        """Notes what was read in full and found sound, so that it need not be read again."""
        self._noted_at = time.monotonic()
        for run in self._open.values():
            self._note(run)

    def _note(self, run: _Run) -> None:
        ids, run.sound = run.sound, []
        # A journal that was lost must not begin anew with this: that it is missing says more.
        if not ids or not self._place.writable or not self._place.journal(run.name).nbytes:
            return
        line = {"t": "verified", "at": time.time(), "ids": ids}
        try:
            # Not synced: what a power cut takes of it is read once more, and nothing else is lost.
            self._place.append(run.name, [line], durable=False)
        except HoldfastError as error:
            _log.warning("what was verified of %s could not be noted: %s", run.name, error)

    def spread(self) -> None:
        """Says of the checkpoints that were not read which of them hold a file found damaged."""
        shards = self._shards.damaged_shards
        if not shards:
            return
        seen = set(self.checked)
        for record in self._place.catalog.checkpoints():
            if record.info.id in seen or not shards & record.info.shards.keys():
                continue
            manifest = self._manifest(record.info.id)
            files = shard_files(manifest) if manifest else {}
            wrong = {path: self._shards.damaged(path, shard) for path, shard in files.items()}
            found = checking.Inspection(
                manifest,
                tuple(error.message for errors in wrong.values() for error in errors),
                paths=tuple(path for path, errors in wrong.items() if errors),
            )
            if found.damage:
                history = RunHistory(self._place.journal(record.info.run)).refresh()
                self._damaged[record.info.id] = found.damage
                checking.settle(self._place, record.info.run, record.info.id, found, history)


def _ignore(_: int) -> None:
    pass
