"""Bringing a mirror up to date with its store.

The order is a save's: shards, the names in the folder, the journal, the manifest last. Deletions
follow the journal's word alone: what is missing or damaged in the store stays on the mirror.
Everything here may be interrupted at any call, and called again.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from holdfast.engine import discard, names
from holdfast.engine.carrying import Progress, carry, read_sealed
from holdfast.engine.manifest import Manifest
from holdfast.errors import (
    HoldfastError,
    NotFoundError,
    SaveError,
    StorageFullError,
)
from holdfast.lifecycle.history import RunHistory
from holdfast.lifecycle.journals import FollowedJournal
from holdfast.lifecycle.mirrors import Mirror
from holdfast.lifecycle.ownership import take_up
from holdfast.lifecycle.place import Place
from holdfast.storage.local import TEMPORARY_PREFIX

_log = logging.getLogger("holdfast")

#: Another process may be at the same mirror.
_LOCK_TIMEOUT_S: Final = 30.0
#: A checkpoint that is thinned while it is copied is copied again, but not for ever.
_ATTEMPTS: Final = 4
_OURS: Final = (".safetensors", ".safetensors.index.json")


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What a pass over a mirror did.

    Attributes:
        mirror: The mirror's folder.
        copied: Ids of checkpoints that it got.
        thinned: Ids of those of which it got a later generation.
        deleted: Ids of those that the store's journal calls deleted.
        only: Ids of those that the mirror alone has, and that nothing deleted.
        damaged: What is damaged in the store and was not copied, a sentence each.
        failures: What else could not be brought up to date, a sentence each.
        nbytes: Bytes that were copied.
    """

    mirror: str
    copied: tuple[str, ...] = ()
    thinned: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    nbytes: int = 0

    @property
    def ok(self) -> bool:
        """Whether the mirror is up to date."""
        return not self.problems

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the mirror is not up to date, a sentence each."""
        return self.damaged + self.failures

    def as_dict(self) -> dict[str, Any]:
        """Returns it as plain JSON values."""
        listed = ("copied", "thinned", "deleted", "only", "damaged", "failures")
        return {
            "mirror": self.mirror,
            "ok": self.ok,
            **{name: list(getattr(self, name)) for name in listed},
            "nbytes": self.nbytes,
        }


@dataclass(slots=True)
class _Tally:
    copied: list[str] = field(default_factory=list)
    thinned: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    only: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    nbytes: int = 0


class MirroredRun:
    """One run in one mirror; a second pass looks at what is news alone.

    Args:
        place: The store.
        mirror: The mirror, which `make_ready` has seen.
        run: The run.

    Attributes:
        current: Checkpoint id to the generation that the mirror has of it, where that is the
            store's.
    """

    def __init__(self, place: Place, mirror: Mirror, run: str) -> None:
        self._place = place
        self._mirror = mirror
        self._run = run
        self._folder = names.folder_of_run(run)
        self._history = RunHistory(place.journal(run))
        self._journal = FollowedJournal(
            place.storage, mirror.storage, f"{self._folder}/{names.JOURNAL}"
        )
        #: Ids of checkpoints that could not be copied, when their folders had changed, and why.
        self._damaged: dict[str, tuple[int, str]] = {}
        self.current: dict[str, int] = {}

    def update(self, *, progress: Progress = lambda nbytes: None) -> Mirrored:
        """Brings the run up to date.

        Returns:
            What was done. Damage in the store is told of, and the rest is done.

        Raises:
            SaveError, StorageFullError: The mirror's medium failed. A later call goes on.
            LockedError: Another process writes the mirror's copy of the run.
            OSError: The mirror's medium failed otherwise.
        """
        tally = _Tally()
        with self._alone():
            self._sweep_leftovers()
            self._history.refresh()
            for checkpoint_id in self._history.take_news():
                self.current.pop(checkpoint_id, None)
                self._damaged.pop(checkpoint_id, None)
            theirs = self._ids_of_mirror()
            behind = self._behind(theirs, tally, progress)
            try:
                self._copy_all(behind, tally, progress)
            except StorageFullError:
                # What the store has let go makes room; but a mirror of old checkpoints is more
                # than an empty one, so that the last of them waits for a newer one.
                if not self._delete(theirs, tally, spare=not theirs & self.current.keys()):
                    raise
                self._copy_all([i for i in behind if i not in self.current], tally, progress)
            tally.damaged += self._journal.update()
            # Where nothing newer could be copied, the last that the mirror has is all there is.
            self._delete(theirs, tally, spare=bool(self._damaged) and not self.current)
        return Mirrored(
            self._mirror.label,
            tuple(tally.copied),
            tuple(tally.thinned),
            tuple(tally.deleted),
            tuple(tally.only),
            tuple(tally.damaged),
            nbytes=tally.nbytes,
        )

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps other passes, and whoever would train on the mirror, from the run."""
        with self._mirror.lock(self._run):
            lock = take_up(self._mirror.storage, self._run, timeout_s=_LOCK_TIMEOUT_S)
            try:
                yield
            finally:
                lock.release()

    def _sweep_leftovers(self) -> None:
        storage = self._mirror.storage
        for name in storage.names(self._folder):
            if name.startswith(TEMPORARY_PREFIX):
                storage.remove(f"{self._folder}/{name}")

    def _ids_of_mirror(self) -> set[str]:
        folders = self._mirror.storage.folders(self._folder)
        return {name for name in folders if names.belongs(name, self._run)}

    # -- copying ------------------------------------------------------------------------------

    def _behind(self, theirs: set[str], tally: _Tally, progress: Progress) -> list[str]:
        """Returns the ids of what the mirror lacks, or has an older generation of; newest first."""
        found: list[tuple[float, str]] = []
        ours = [i for i in self._place.checkpoint_ids(self._run) if names.belongs(i, self._run)]
        for checkpoint_id in ours:
            if checkpoint_id in self.current and checkpoint_id in theirs:
                continue
            known = self._damaged.get(checkpoint_id)
            if known is not None and known[0] == self._changed_ns(checkpoint_id):
                # Reading all of it again would find the same.
                tally.damaged.append(known[1])
                continue
            self._damaged.pop(checkpoint_id, None)
            manifest = self._read(checkpoint_id, tally)
            if manifest is None:
                continue
            there = self._there(checkpoint_id)
            if there is not None and there.generation > manifest.generation:
                # A thinned one that the store has in full again: the mirror takes nothing back.
                self.current[checkpoint_id] = manifest.generation
            elif there is not None and self._is_whole(there, manifest):
                self._remove_strays(manifest)
                self.current[checkpoint_id] = manifest.generation
                progress(manifest.nbytes)
            else:
                found.append((manifest.created_at, checkpoint_id))
        tally.only += sorted(self._only(theirs))
        return [checkpoint_id for _, checkpoint_id in sorted(found, reverse=True)]

    def _read(self, checkpoint_id: str, tally: _Tally) -> Manifest | None:
        """Returns a checkpoint of the store; None where there is none, or one that is damaged."""
        try:
            return self._place.manifest(checkpoint_id)
        except NotFoundError:
            return None
        except HoldfastError as error:
            self._set_aside(checkpoint_id, error.message, tally)
            return None

    def _set_aside(self, checkpoint_id: str, why: str, tally: _Tally) -> None:
        sentence = f"{checkpoint_id} is damaged in the store and was not copied: {why}"
        self._damaged[checkpoint_id] = (self._changed_ns(checkpoint_id), sentence)
        tally.damaged.append(sentence)

    def _changed_ns(self, checkpoint_id: str) -> int:
        folder = names.folder_of_checkpoint(self._run, checkpoint_id)
        return self._place.storage.modified_ns(folder)

    def _is_whole(self, there: Manifest, manifest: Manifest) -> bool:
        storage = self._mirror.storage
        return there.generation == manifest.generation and all(
            storage.size(f"{there.folder}/{shard.file}") == shard.nbytes
            for item in there.items.values()
            for shard in item.shards
        )

    def _there(self, checkpoint_id: str) -> Manifest | None:
        try:
            return read_sealed(self._mirror.storage, self._run, checkpoint_id)[0]
        except HoldfastError:
            # None, or one that is damaged itself: it gets another.
            return None

    def _only(self, theirs: set[str]) -> Iterator[str]:
        for checkpoint_id in theirs - self._history.deleted:
            path = f"{names.folder_of_checkpoint(self._run, checkpoint_id)}/{names.MANIFEST}"
            if self._place.has_manifest(self._run, checkpoint_id):
                continue
            if self._mirror.storage.size(path) is not None:
                self.current.pop(checkpoint_id, None)
                yield checkpoint_id

    def _copy_all(self, behind: list[str], tally: _Tally, progress: Progress) -> None:
        for checkpoint_id in behind:
            for _ in range(_ATTEMPTS):
                if self._copy(checkpoint_id, tally, progress):
                    break

    def _copy(self, checkpoint_id: str, tally: _Tally, progress: Progress) -> bool:
        """Copies a checkpoint; returns False where it was thinned meanwhile."""
        target = self._mirror.storage
        try:
            manifest, data = read_sealed(self._place.storage, self._run, checkpoint_id)
        except NotFoundError:
            # Deleted since it was listed.
            return True
        before = self._there(checkpoint_id)
        try:
            nbytes = carry(
                self._place.storage,
                target,
                manifest,
                data,
                before_manifest=self._update_journal,
                progress=progress,
            )
        except (SaveError, StorageFullError):
            raise
        except (FileNotFoundError, HoldfastError) as error:
            if self._generation(checkpoint_id) != manifest.generation:
                return False
            if before is None:
                discard.delete(target, self._run, checkpoint_id)
            self._set_aside(checkpoint_id, sentence_of(error), tally)
            return True
        self._remove_strays(manifest)
        self.current[checkpoint_id] = manifest.generation
        tally.nbytes += nbytes
        thinner = before is not None and before.generation < manifest.generation
        (tally.thinned if thinner else tally.copied).append(checkpoint_id)
        return True

    def _remove_strays(self, manifest: Manifest) -> None:
        """Removes what a thinning, or a pass that was cut off, left in a checkpoint's folder."""
        storage = self._mirror.storage
        named = {file for item in manifest.items.values() for file in item.files}
        left = [
            name
            for name in storage.names(manifest.folder)
            if name not in named and (name.startswith(TEMPORARY_PREFIX) or name.endswith(_OURS))
        ]
        if left:
            # The manifest that does without them may have been published by one who died at once.
            storage.sync_folder(manifest.folder)
            discard.remove_files(storage, manifest.folder, left)

    def _update_journal(self) -> None:
        # What is wrong with it is told once, at the end of the pass.
        self._journal.update()

    def _generation(self, checkpoint_id: str) -> int | None:
        try:
            return self._place.manifest(checkpoint_id).generation
        except NotFoundError:
            return None

    # -- deleting -----------------------------------------------------------------------------

    def _delete(self, theirs: set[str], tally: _Tally, *, spare: bool) -> bool:
        """Deletes what the store's journal says was deleted.

        Args:
            theirs: Ids of the mirror's checkpoints.
            tally: What was done so far.
            spare: Whether the newest of them stays for now.

        Returns:
            Whether anything was deleted.
        """
        gone = sorted(
            (i for i in theirs & self._history.gone if not self._place.has_manifest(self._run, i)),
            key=self._age,
        )
        for checkpoint_id in gone[: len(gone) - spare]:
            discard.delete(self._mirror.storage, self._run, checkpoint_id)
            theirs.discard(checkpoint_id)
            self.current.pop(checkpoint_id, None)
            tally.deleted.append(checkpoint_id)
        return bool(gone[: len(gone) - spare])

    def _age(self, checkpoint_id: str) -> float:
        note = self._history.saves.get(checkpoint_id)
        return note.info.created_at if note else 0.0


def sentence_of(error: Exception) -> str:
    """Returns what an error says, without what to do about it."""
    if isinstance(error, HoldfastError):
        return error.message
    if isinstance(error, FileNotFoundError):
        return f"{error.filename} is missing"
    return str(error)
