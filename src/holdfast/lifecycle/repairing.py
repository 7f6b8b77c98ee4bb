"""What interrupted work and damage left in a store, and setting it right without deleting anything.

No checkpoint is ever deleted here: what cannot be set right is named, and left as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from holdfast.engine import discard, names
from holdfast.engine.manifest import Manifest, StoredShard
from holdfast.engine.reader import index_error, read_header
from holdfast.engine.scanning import shard_files
from holdfast.errors import ConfigError, HoldfastError, NotFoundError
from holdfast.lifecycle import checking, healing
from holdfast.lifecycle.findings import Findings, Found
from holdfast.lifecycle.history import RunHistory
from holdfast.lifecycle.ownership import Standing, note_interrupted, standing
from holdfast.lifecycle.place import Place
from holdfast.lifecycle.prune import finish_interrupted
from holdfast.lifecycle.reindex import record_of, record_without_manifest, refresh_run
from holdfast.lifecycle.sweeping import catalog_is_sound, leftovers, sweep
from holdfast.model import CheckpointRecord
from holdfast.storage import Identity, identity
from holdfast.storage.local import TEMPORARY_PREFIX

_log = logging.getLogger("holdfast")

_OURS: Final = (".safetensors", ".safetensors.index.json")

Progress = Callable[[int], None]


def repair(place: Place, *, apply: bool, progress: Progress | None = None) -> Findings:
    """Finds what interrupted work and damage left behind and, with `apply`, sets it right.

    Args:
        place: The store.
        apply: Whether to change anything.
        progress: Called with 1 per checkpoint that was looked at.

    Raises:
        ConfigError: `apply` in a place that is open for reading only.
    """
    if apply and not place.writable:
        raise ConfigError(
            f"{place.label} is open for reading only: nothing can be repaired",
            hint="open it with mode='a' where it can be written",
        )
    found = Found(apply=apply)
    busy = []
    needed: set[str] = set()
    if catalog_is_sound(place, found):
        work = _Repair(place, found, needed, progress or _ignore)
        busy = [run for run in place.run_names() if not work.run(run)]
        sweep(place, found, needed=needed, busy=bool(busy))
    return Findings(tuple(found.findings), tuple(busy))


class _Repair:
    """A look at run after run.

    Args:
        place: The store.
        found: Where findings go.
        needed: Gathers the shards that a damaged checkpoint may still be healed from.
        progress: As `repair`.
    """

    def __init__(self, place: Place, found: Found, needed: set[str], progress: Progress) -> None:
        self.place = place
        self.found = found
        self.apply = found.apply
        self._needed = needed
        self._progress = progress
        self._holders: dict[str, tuple[str, ...]] | None = None
        self._sound: set[tuple[str, Identity]] = set()

    # -- a run ------------------------------------------------------------------------------

    def run(self, run: str) -> bool:
        """Looks at a run; returns False where another process writes it."""
        with standing(self.place, run, take=self.apply) as stands:
            if stands.fault:
                path = f"{names.folder_of_run(run)}/{names.LOCK}"
                action = "give it back its permissions, or remove it: it is made anew"
                self.found.leave("lock", path, stands.fault, action)
            try:
                self._run(run, stands)
            except HoldfastError as error:
                path = getattr(error, "path", "") or names.folder_of_run(run)
                self.found.leave("damaged", path, error.message, error.hint or "look into it")
        return not stands.busy

    def _run(self, run: str, stands: Standing) -> None:
        history = RunHistory(self.place.journal(run)).refresh()
        if stands.mine:
            self._owner(run, history, stands)
            self._interrupted(run, history)
            self._unfinished(run, history)
            leftovers(self.place, self.found, names.folder_of_run(run))
        rows = {r.info.id: r for r in self.place.catalog.checkpoints(run)}
        files: dict[str, CheckpointRecord] = {}
        relied_on = 0
        for checkpoint_id in self.place.checkpoint_ids(run):
            manifest = self._checkpoint(
                run, checkpoint_id, history, rows.get(checkpoint_id), mine=stands.mine
            )
            self._progress(1)
            if manifest is not None:
                files[checkpoint_id] = record_of(manifest, history)
                relied_on = max(relied_on, manifest.journal_nbytes)
            elif checkpoint_id in history.damaged or self.place.has_manifest(run, checkpoint_id):
                files[checkpoint_id] = record_without_manifest(run, checkpoint_id, history)
        self._lost(run, history)
        self._journal(run, history, relied_on)
        if stands.mine:
            # While a run is written its owner sees to the catalog, and may be a moment behind.
            self._drift(run, files, rows)

    def _owner(self, run: str, history: RunHistory, stands: Standing) -> None:
        running = history.run is not None and history.run.status == "running"
        if running and not stands.taken_since():
            self.found.act(
                "owner",
                names.folder_of_run(run),
                f"the run is noted as running, and nobody holds its lock; {stands.last_owner}",
                "note it as interrupted",
                partial(note_interrupted, self.place, run),
            )

    def _interrupted(self, run: str, history: RunHistory) -> None:
        plan = history.open_plan
        for checkpoint_id in (*plan.deleted, *plan.thinned):
            folder = names.folder_of_checkpoint(run, checkpoint_id)
            verb = "deleting" if checkpoint_id in plan.deleted else "thinning"
            self.found.settled("interrupted", folder, f"{verb} it was interrupted", "finish that")
        if self.apply:
            finish_interrupted(self.place, run, history)

    def _unfinished(self, run: str, history: RunHistory) -> None:
        for checkpoint_id in self.place.checkpoint_ids(run):
            gone = checkpoint_id in history.open_plan.deleted
            if gone or self.place.has_manifest(run, checkpoint_id):
                continue
            if checking.is_lost(self.place, run, checkpoint_id, history):
                continue
            self.found.act(
                "unfinished",
                names.folder_of_checkpoint(run, checkpoint_id),
                "a save that never became a checkpoint",
                "remove it",
                partial(discard.delete, self.place.storage, run, checkpoint_id),
            )

    def _lost(self, run: str, history: RunHistory) -> None:
        present = {i for i in self.place.checkpoint_ids(run) if self.place.has_manifest(run, i)}
        for checkpoint_id in sorted({*self.place.catalog.ids(run), *history.damaged} - present):
            if checking.is_lost(self.place, run, checkpoint_id, history):
                self._damaged_manifest(run, checkpoint_id, "is missing", history)

    def _journal(self, run: str, history: RunHistory, relied_on: int) -> None:
        journal = self.place.journal(run)
        lost = "restore it from a copy; what it said beside its manifests is lost otherwise"
        for sentence in history.damage:
            self.found.leave("damaged", journal.path, sentence, lost)
        length = journal.nbytes
        if length < relied_on or not length:
            what = "the journal is missing"
            if length:
                what = f"it has {length} bytes, and a checkpoint relies on {relied_on}: it was cut"
            self.found.leave("damaged", journal.path, what, lost)

    def _damaged_manifest(
        self, run: str, checkpoint_id: str, what: str, history: RunHistory
    ) -> None:
        path = f"{names.folder_of_checkpoint(run, checkpoint_id)}/{names.MANIFEST}"
        self.found.leave("damaged", path, what, "restore it from a copy, or delete it")
        if self.apply:
            checking.note(self.place, run, checkpoint_id, [f"{path} {what}"], history)

    # -- a checkpoint -----------------------------------------------------------------------

    def _checkpoint(
        self,
        run: str,
        checkpoint_id: str,
        history: RunHistory,
        record: CheckpointRecord | None,
        *,
        mine: bool,
    ) -> Manifest | None:
        try:
            manifest = self.place.manifest(checkpoint_id)
        except NotFoundError:
            return None
        except HoldfastError as error:
            self._damaged_manifest(run, checkpoint_id, f"cannot be read: {error.message}", history)
            return None
        in_catalog = record is not None and record.info.damaged
        noted = checkpoint_id in history.damaged or in_catalog
        if noted or not self._looks_sound(manifest):
            self._heal(manifest, history, noted=noted)
        if mine and checkpoint_id not in history.open_plan.thinned:
            self._strays(manifest)
        return manifest

    def _looks_sound(self, manifest: Manifest) -> bool:
        """Returns whether all files are there, with their length, header or content.

        A shard that many checkpoints hold is looked at once.
        """
        storage = self.place.storage
        try:
            for path, shard in shard_files(manifest).items():
                found = identity(storage, path)
                if found is None or found.nbytes != shard.nbytes:
                    return False
                if (shard.shard, found) not in self._sound:
                    read_header(storage, manifest.folder, shard)
                    self._sound.add((shard.shard, found))
        except (HoldfastError, FileNotFoundError):
            return False
        indexes = (item.index for item in manifest.items.values() if item.index is not None)
        return not any(index_error(storage, f"{manifest.folder}/{i.file}", i) for i in indexes)

    def _heal(self, manifest: Manifest, history: RunHistory, *, noted: bool) -> None:
        if self._holders is None:
            self._holders = healing.holders(self.place)
        broken = list(healing.broken_files(self.place, manifest, self._holders, thoroughly=noted))
        if broken and not self._stands(manifest):
            # Thinned or deleted by another process while it was read: its files are gone rightly.
            return
        for one in broken:
            if one.shard is not None:
                self._needed.add(one.shard.shard)
                self._forget_damaged_copy(one.shard)
            if one.curable:
                action = f"link it again from {one.source}" if one.source else "write it again"
                self.found.act("damaged", one.path, one.why, action, partial(self._mend, one))
            else:
                action = "restore it from a copy, or delete the checkpoint"
                self.found.leave("damaged", one.path, one.why, action)
        if noted and not broken:
            what = f"{manifest.id} is noted as damaged and reads well"
            self.found.settled("drift", manifest.folder, what, "note it as sound")
        if self.apply and (broken or noted):
            found = checking.inspect(self.place, manifest.run, manifest.id, progress=_ignore)
            if found is not None:
                checking.settle(self.place, manifest.run, manifest.id, found, history)

    def _stands(self, manifest: Manifest) -> bool:
        try:
            return self.place.manifest(manifest.id).generation == manifest.generation
        except NotFoundError:
            return False

    def _mend(self, broken: healing.Broken) -> None:
        healing.heal(self.place, broken)
        _log.info("%s was put right", broken.path)

    def _forget_damaged_copy(self, shard: StoredShard) -> None:
        """Takes a damaged shard's second name away: a later save would link it as sound."""
        folder, second = healing.second_name(shard)
        path = f"{folder}/{second.file}"
        if self.place.storage.size(path) is None:
            return
        if not healing.is_sound(self.place, folder, second):
            self.found.act(
                "damaged",
                path,
                "a damaged shard that later saves would reuse",
                "remove this name of it",
                partial(self.place.storage.remove, path),
            )

    def _strays(self, manifest: Manifest) -> None:
        for name in checking.strays_of(self.place, manifest):
            path = f"{manifest.folder}/{name}"
            what = "a file that the checkpoint's manifest does not name"
            if name.startswith(TEMPORARY_PREFIX) or name.endswith(_OURS):
                self.found.act(
                    "stray",
                    path,
                    what,
                    "remove it",
                    partial(discard.remove_files, self.place.storage, manifest.folder, [name]),
                )
            else:
                self.found.leave("stray", path, what, "keep it elsewhere")

    # -- the catalog ------------------------------------------------------------------------

    def _drift(
        self,
        run: str,
        found: Mapping[str, CheckpointRecord],
        before: Mapping[str, CheckpointRecord],
    ) -> None:
        files = {i: _facts(record) for i, record in found.items() if names.belongs(i, run)}
        now = self.place.catalog.checkpoints(run) if self.apply else before.values()
        rows = {record.info.id: _facts(record) for record in now}
        known = self.place.catalog.run(run) is not None
        if files == rows and known:
            return
        odd = sorted(i for i in files.keys() | rows.keys() if files.get(i) != rows.get(i))
        what = f"the catalog is wrong about {', '.join(odd[:3]) or run}" + (
            f" and {len(odd) - 3} more" if len(odd) > 3 else ""
        )
        self.found.act(
            "drift",
            names.folder_of_run(run),
            what,
            "read the run's files again",
            partial(refresh_run, self.place, run),
        )


def _facts(record: CheckpointRecord) -> tuple[object, ...]:
    info = record.info
    # As text: NaN differs from itself, and a NaN metric is no drift.
    metrics = repr(sorted(info.metrics.items()))
    return (record.generation, info.pinned, info.tags, info.damaged, info.items, metrics)


def _ignore(_: int) -> None:
    pass
