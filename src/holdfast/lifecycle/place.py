"""An opened store, as the layers below see it: its files, its catalog, what its medium can do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.catalog import Catalog
from holdfast.engine import names
from holdfast.engine.journal import Journal, Record
from holdfast.engine.manifest import Manifest
from holdfast.engine.reader import read_manifest
from holdfast.errors import HoldfastError
from holdfast.storage import Capabilities, LocalStorage, survey

if TYPE_CHECKING:
    from holdfast.lifecycle.mirrors import Mirror

_log = logging.getLogger("holdfast")


@dataclass(frozen=True, slots=True)
class Place:
    """An opened store.

    Attributes:
        storage: Its files.
        catalog: Its index; never the only copy of a fact.
        store_id: What `holdfast.json` says.
        capabilities: What the medium can do; None where the store is only read.
        writable: Whether anything may be written.
        label: How the store is called in messages.
        mirrors: The second places that it was opened with.
    """

    storage: LocalStorage
    catalog: Catalog
    store_id: str
    capabilities: Capabilities | None
    writable: bool
    label: str
    mirrors: tuple[Mirror, ...] = ()

    @property
    def links(self) -> bool:
        """Whether shards are shared by hard links."""
        return self.capabilities is not None and self.capabilities.hard_links

    def journal(self, run: str) -> Journal:
        """Returns a run's journal."""
        return Journal(self.storage, f"{names.folder_of_run(run)}/{names.JOURNAL}")

    def run_names(self) -> list[str]:
        """Returns the names of all runs: folders that hold a journal or a checkpoint."""
        return list(self.marks())

    def marks(self) -> dict[str, tuple[int, int]]:
        """Returns, for each run, how long its journal is and when its folder changed, in ns.

        What the catalog has seen of a run is noted in the same form (docs/decisions/003).
        """
        found = survey(self.storage, "runs", names.JOURNAL)
        runs = (
            (names.run_of_folder(folder), mark)
            for folder, mark in found.items()
            if names.is_run_folder(folder)
        )
        return {run: mark for run, mark in runs if mark[0] or self.checkpoint_ids(run)}

    def checkpoint_ids(self, run: str) -> list[str]:
        """Returns the ids of a run's folders, finished or not."""
        folders = self.storage.folders(names.folder_of_run(run))
        return [name for name in folders if names.is_id(name)]

    def has_manifest(self, run: str, checkpoint_id: str) -> bool:
        """Returns whether a checkpoint exists."""
        folder = names.folder_of_checkpoint(run, checkpoint_id)
        return self.storage.size(f"{folder}/{names.MANIFEST}") is not None

    def manifest(self, checkpoint_id: str) -> Manifest:
        """Returns a checkpoint's manifest.

        Raises:
            NotFoundError, IntegrityError, FormatError: As `read_manifest`.
        """
        return read_manifest(self.storage, names.run_of_id(checkpoint_id), checkpoint_id)

    def append(
        self,
        run: str,
        records: Sequence[Record],
        *,
        durable: bool,
        index: Callable[[Catalog], object] | None = None,
        provided: Callable[[], object] = lambda: None,
    ) -> int:
        """Writes facts to a run's journal, then to the catalog.

        Args:
            run: The run.
            records: The facts.
            durable: Whether they are on the medium on return.
            index: Puts them into the catalog. What the catalog lags behind after a failure is
                found at the next opening, by the length of the journal that it has seen.
            provided: As for `Journal.append`.

        Returns:
            The journal's length in bytes.

        Raises:
            SaveError, StorageFullError: The journal could not be written.
        """
        before, after = self.journal(run).append(records, durable=durable, provided=provided)

        def apply(catalog: Catalog) -> None:
            if index is not None:
                index(catalog)
            # Only if nothing of another process lies between what the catalog saw and this.
            seen = catalog.sync_state(run)
            if seen is not None and seen[0] == before:
                catalog.set_sync(run, journal_nbytes=after, folder_mtime_ns=seen[1])

        self.index(apply)
        return after

    def index(self, write: Callable[[Catalog], object]) -> bool:
        """Writes to the catalog in one transaction; a failure is logged, for it heals later."""
        try:
            with self.catalog.transaction():
                write(self.catalog)
        except HoldfastError as error:
            _log.warning("the catalog of %s lags behind: %s", self.label, error)
            return False
        return True

    def mark_seen(self, run: str) -> None:
        """Notes in the catalog that it has seen the run's folder as it is now."""
        self.index(lambda catalog: self.note_seen(catalog, run))

    def note_seen(self, catalog: Catalog, run: str) -> None:
        """Does what `mark_seen` says, in the transaction of the caller."""
        seen = catalog.sync_state(run)
        if seen is not None:
            modified = self.storage.modified_ns(names.folder_of_run(run))
            catalog.set_sync(run, journal_nbytes=seen[0], folder_mtime_ns=modified)
