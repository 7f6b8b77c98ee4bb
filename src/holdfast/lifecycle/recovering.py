"""What a store lost or has damaged, taken back from its mirrors; all of it is checked on the way.

Nothing is taken that the journal calls deleted, and nothing sound is replaced.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from holdfast.engine import names
from holdfast.engine.carrying import Progress, carry, read_sealed
from holdfast.errors import HoldfastError, NotFoundError, SaveError, StorageFullError
from holdfast.lifecycle import checking, healing
from holdfast.lifecycle.history import RunHistory
from holdfast.lifecycle.journals import Cure, cure_of, mend
from holdfast.lifecycle.mirrors import Mirror, all_of, is_usable
from holdfast.lifecycle.place import Place
from holdfast.lifecycle.reindex import refresh_run
from holdfast.storage import LocalStorage

_log = logging.getLogger("holdfast")


@dataclass(frozen=True, slots=True)
class Errand:
    """Something that a mirror can give back.

    Attributes:
        path: What is missing or damaged, relative to the store.
        what: What is wrong with it.
        action: What is done about it.
        work: Does it.
        checkpoint_id: The checkpoint; empty for a journal.
    """

    path: str
    what: str
    action: str
    work: Callable[[], object]
    checkpoint_id: str = ""


@dataclass(slots=True)
class Mirrors:
    """The mirrors of a store that can be read now.

    Attributes:
        place: The store.
        usable: Those mirrors.
    """

    place: Place
    usable: tuple[Mirror, ...] = field(default=())

    @classmethod
    def of(cls, place: Place) -> Mirrors:
        """Looks which mirrors of a store there are; what hinders one is logged."""
        if not place.store_id:
            return cls(place)
        return cls(place, tuple(mirror for mirror in all_of(place) if is_usable(place, mirror)))

    def runs(self) -> list[str]:
        """Returns the names of runs that mirrors hold and the store has nothing of."""
        own = set(self.place.run_names())
        found = {
            names.run_of_folder(folder)
            for mirror in self.usable
            for folder in mirror.storage.folders("runs")
            if names.is_run_folder(folder) and mirror.storage.size(f"runs/{folder}/{names.JOURNAL}")
        }
        return sorted(found - own)

    # -- journals -----------------------------------------------------------------------------

    def journal_cure(self, run: str) -> tuple[Mirror, Cure] | None:
        """Returns the mirror whose copy of a run's journal has most of what the store's lost."""
        path = f"{names.folder_of_run(run)}/{names.JOURNAL}"
        found: list[tuple[Mirror, Cure]] = []
        for mirror in self.usable:
            try:
                cure = cure_of(self.place.storage, mirror.storage, path)
            except HoldfastError as error:
                _log.warning("%s of %s: %s", path, mirror.label, error.message)
                continue
            if cure is not None:
                found.append((mirror, cure))
        return max(found, key=lambda pair: pair[1].lines) if found else None

    def mend_journal(self, mirror: Mirror, run: str) -> None:
        """Gives a run's journal the lines that it lost.

        Raises:
            SaveError, StorageFullError: The medium failed; the journal is as it was.
        """
        folder = names.folder_of_run(run)
        self.place.storage.make_folder(folder)
        lines = mend(self.place.storage, mirror.storage, f"{folder}/{names.JOURNAL}")
        _log.warning("the journal of %s got %d lines back from %s", run, lines, mirror.label)

    def journal_errands(self, run: str) -> Iterator[Errand]:
        """Yields what gives a run's journal the lines back that it lost."""
        found = self.journal_cure(run)
        if found is not None:
            mirror, cure = found
            yield Errand(
                f"{names.folder_of_run(run)}/{names.JOURNAL}",
                f"lines are missing or damaged: {cure.lines}",
                f"take them from the mirror {mirror.label}",
                partial(self.mend_journal, mirror, run),
            )

    # -- checkpoints --------------------------------------------------------------------------

    def lost(
        self, run: str, history: RunHistory, *, damaged: bool = True
    ) -> Iterator[tuple[str, Mirror]]:
        """Yields the ids of checkpoints whose manifest is gone or damaged, and who has them.

        Args:
            run: The run.
            history: What its journal says.
            damaged: Whether manifests are read; left out, only those that are gone are found.
        """
        here = set(self.place.checkpoint_ids(run))
        for checkpoint_id in sorted({*here, *self._ids(run)}):
            if not names.belongs(checkpoint_id, run) or checkpoint_id in history.deleted:
                continue
            sound = (
                _has_manifest(self.place.storage, run, checkpoint_id)
                if damaged
                else self.place.has_manifest(run, checkpoint_id)
            )
            if not sound:
                mirror = self.holder(run, checkpoint_id)
                if mirror is not None:
                    yield checkpoint_id, mirror

    def checkpoint_errands(self, run: str, history: RunHistory) -> Iterator[Errand]:
        """Yields what brings each lost checkpoint of a run back."""
        for checkpoint_id, mirror in self.lost(run, history):
            yield Errand(
                f"{names.folder_of_checkpoint(run, checkpoint_id)}/{names.MANIFEST}",
                "is missing or damaged",
                f"bring the checkpoint back from the mirror {mirror.label}",
                partial(self.bring_back, run, checkpoint_id),
                checkpoint_id,
            )

    def holder(self, run: str, checkpoint_id: str) -> Mirror | None:
        """Returns a mirror that has a sound manifest of a checkpoint."""
        return next((m for m in self.usable if _has_manifest(m.storage, run, checkpoint_id)), None)

    def bring_back(
        self, run: str, checkpoint_id: str, *, progress: Progress = lambda nbytes: None
    ) -> None:
        """Makes a checkpoint exist again as a mirror has it.

        Raises:
            HoldfastError: No mirror has all of it sound; its last word is raised.
            SaveError, StorageFullError: The store's medium failed.
        """
        last: Exception = NotFoundError(
            f"no mirror has {checkpoint_id}", hint="`holdfast doctor` says what can be mended"
        )
        for mirror in self.usable:
            try:
                manifest, data = read_sealed(mirror.storage, run, checkpoint_id)
                self.place.storage.make_folder(names.folder_of_run(run))
                carry(mirror.storage, self.place.storage, manifest, data, progress=progress)
            except (SaveError, StorageFullError):
                raise
            except (HoldfastError, OSError) as error:
                last = error
                continue
            _log.warning("%s was brought back from its mirror %s", checkpoint_id, mirror.label)
            return
        raise last

    def bring_back_all(self, run: str) -> None:
        """Brings back every checkpoint of a run that is lost; one that cannot be is logged."""
        if not self.usable or not self.place.writable:
            return
        history = RunHistory(self.place.journal(run)).refresh()
        found = list(self.lost(run, history, damaged=False))
        for checkpoint_id, _ in found:
            try:
                self.bring_back(run, checkpoint_id)
            except (HoldfastError, OSError) as error:
                _log.warning("%s cannot be brought back: %s", checkpoint_id, error)
        if found:
            refresh_run(self.place, run)

    def heal(self, run: str, checkpoint_id: str) -> bool:
        """Mends a damaged checkpoint from the mirrors; returns whether it is sound now.

        Raises:
            SaveError, StorageFullError: The store's medium failed.
        """
        if not self.usable:
            return False
        try:
            if not _has_manifest(self.place.storage, run, checkpoint_id):
                self.bring_back(run, checkpoint_id)
            manifest = self.place.manifest(checkpoint_id)
            known = healing.holders(self.place)
            for broken in healing.broken_files(
                self.place, manifest, known, thoroughly=True, mirrors=self.usable
            ):
                if broken.curable:
                    healing.heal(self.place, broken)
                    _log.warning("%s: %s", broken.path, broken.action)
        except (SaveError, StorageFullError):
            raise
        except (HoldfastError, OSError) as error:
            _log.warning("%s cannot be healed: %s", checkpoint_id, error)
            return False
        found = checking.inspect(self.place, run, checkpoint_id, progress=_ignore)
        if found is None:
            return False
        history = RunHistory(self.place.journal(run)).refresh()
        checking.settle(self.place, run, checkpoint_id, found, history)
        refresh_run(self.place, run)
        return not (found.damage or found.unread)

    def _ids(self, run: str) -> set[str]:
        folder = names.folder_of_run(run)
        return {i for mirror in self.usable for i in mirror.storage.folders(folder)}


def _has_manifest(storage: LocalStorage, run: str, checkpoint_id: str) -> bool:
    """Returns whether a checkpoint's manifest is there, and sound."""
    try:
        read_sealed(storage, run, checkpoint_id)
    except HoldfastError:
        return False
    return True


def _ignore(_: int) -> None:
    pass
