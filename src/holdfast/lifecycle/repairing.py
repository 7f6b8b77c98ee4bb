"""What interrupted work and damage left in a store, and setting it right without deleting anything.

No checkpoint is ever deleted here: what cannot be set right is named, and left as it is.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal

from holdfast.engine import discard, names
from holdfast.engine.manifest import Manifest, StoredShard
from holdfast.errors import ConfigError, HoldfastError, LockedError, NotFoundError
from holdfast.lifecycle import checking, healing
from holdfast.lifecycle.history import RunHistory
from holdfast.lifecycle.place import Place
from holdfast.lifecycle.prune import finish_interrupted
from holdfast.lifecycle.recovering import Errand, Mirrors
from holdfast.lifecycle.reindex import gather, refresh_run
from holdfast.model import CheckpointRecord
from holdfast.storage import LocalStorage, set_aside
from holdfast.storage.local import TEMPORARY_PREFIX

_log = logging.getLogger("holdfast")

Kind = Literal["interrupted", "unfinished", "leftover", "stray", "ownerless", "drift", "damaged"]

_OURS: Final = (".safetensors", ".safetensors.index.json")
_PROBE: Final = f"{TEMPORARY_PREFIX}probe-"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        kind: ``interrupted`` (a clean-up), ``unfinished`` (a save), ``leftover`` (a temporary
            file), ``stray`` (a file that no manifest names), ``ownerless`` (a shard of no
            checkpoint), ``drift`` (the catalog and the files differ) or ``damaged``.
        path: Where, relative to the store.
        what: What was found, as a sentence.
        action: What sets it right.
        done: Whether that was done.
    """

    kind: Kind
    path: str
    what: str
    action: str
    done: bool = False


@dataclass(frozen=True, slots=True)
class Findings:
    """All that was found.

    Attributes:
        findings: Run by run, then of the store as a whole.
        busy: Runs that another process writes: unfinished saves are not looked for in them.
    """

    findings: tuple[Finding, ...] = ()
    busy: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether everything is as it should be, now."""
        return all(finding.done for finding in self.findings)

    @property
    def left(self) -> tuple[Finding, ...]:
        """What has not been set right."""
        return tuple(finding for finding in self.findings if not finding.done)

    def as_dict(self) -> dict[str, Any]:
        """Returns it as plain JSON values."""
        return {
            "ok": self.ok,
            "busy": list(self.busy),
            "findings": [
                {
                    "kind": finding.kind,
                    "path": finding.path,
                    "what": finding.what,
                    "action": finding.action,
                    "done": finding.done,
                }
                for finding in self.findings
            ],
        }


def repair(place: Place, *, apply: bool) -> Findings:
    """Finds what interrupted work and damage left behind and, with `apply`, sets it right.

    Args:
        place: The store.
        apply: Whether to change anything.

    Raises:
        ConfigError: `apply` in a place that is open for reading only.
    """
    if apply and not place.writable:
        raise ConfigError(
            f"{place.label} is open for reading only: nothing can be repaired",
            hint="open it with mode='a' where it can be written",
        )
    work = _Repair(place, apply, Mirrors.of(place))
    for run in sorted({*place.run_names(), *work.mirrors.runs()}):
        work.run(run)
    work.store()
    return Findings(tuple(work.found), tuple(work.busy))


@dataclass(slots=True)
class _Repair:
    place: Place
    apply: bool
    mirrors: Mirrors
    found: list[Finding] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)
    _holders: dict[str, tuple[str, ...]] | None = None
    _needed: set[str] = field(default_factory=set)
    _on_mirrors: set[str] = field(default_factory=set)

    # -- a run ------------------------------------------------------------------------------

    def run(self, run: str) -> None:
        with _owned(self.place, run, take=self.apply) as mine:
            if mine:
                self._take_from_mirrors(self.mirrors.journal_errands(run))
            history = RunHistory(self.place.journal(run)).refresh()
            if mine:
                # First: what is brought back is no save that was never finished.
                self._take_from_mirrors(self.mirrors.checkpoint_errands(run, history))
                self._interrupted(run, history)
                self._unfinished(run, history)
                self._leftovers(names.folder_of_run(run))
            else:
                self.busy.append(run)
            for checkpoint_id in self.place.checkpoint_ids(run):
                self._checkpoint(run, checkpoint_id, history, mine=mine)
            self._lost(run, history)
            self._drift(run)

    def _take_from_mirrors(self, errands: Iterable[Errand]) -> None:
        for errand in errands:
            self._on_mirrors.add(errand.checkpoint_id)
            self._act("damaged", errand.path, errand.what, errand.action, errand.work)

    def _interrupted(self, run: str, history: RunHistory) -> None:
        plan = history.open_plan
        for checkpoint_id in (*plan.deleted, *plan.thinned):
            folder = names.folder_of_checkpoint(run, checkpoint_id)
            verb = "deleting" if checkpoint_id in plan.deleted else "thinning"
            self._add("interrupted", folder, f"{verb} it was interrupted", "finish that")
        if self.apply:
            finish_interrupted(self.place, run, history)

    def _unfinished(self, run: str, history: RunHistory) -> None:
        for checkpoint_id in self.place.checkpoint_ids(run):
            gone = checkpoint_id in history.open_plan.deleted
            lost = checking.is_lost(self.place, run, checkpoint_id, history)
            lost = lost or checkpoint_id in self._on_mirrors
            if gone or lost or self.place.has_manifest(run, checkpoint_id):
                continue
            self._act(
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

    def _damaged_manifest(
        self, run: str, checkpoint_id: str, what: str, history: RunHistory
    ) -> None:
        path = f"{names.folder_of_checkpoint(run, checkpoint_id)}/{names.MANIFEST}"
        if checkpoint_id in self._on_mirrors and not self.apply:
            return
        self._add("damaged", path, what, "restore it from a copy, or delete it", done=False)
        if self.apply:
            checking.note(self.place, run, checkpoint_id, [f"{path} {what}"], history)

    # -- a checkpoint -----------------------------------------------------------------------

    def _checkpoint(self, run: str, checkpoint_id: str, history: RunHistory, *, mine: bool) -> None:
        try:
            manifest = self.place.manifest(checkpoint_id)
        except NotFoundError:
            return
        except HoldfastError as error:
            self._damaged_manifest(run, checkpoint_id, f"cannot be read: {error.message}", history)
            return
        self._heal(manifest, history)
        if mine and checkpoint_id not in history.open_plan.thinned:
            self._strays(manifest)

    def _heal(self, manifest: Manifest, history: RunHistory) -> None:
        known = self.place.catalog.get(manifest.id)
        noted = manifest.id in history.damaged or (known is not None and known.info.damaged)
        if self._holders is None:
            self._holders = healing.holders(self.place)
        broken = list(
            healing.broken_files(
                self.place,
                manifest,
                self._holders,
                thoroughly=noted or manifest.id in self._on_mirrors,
                mirrors=self.mirrors.usable,
            )
        )
        for one in broken:
            if one.shard is not None:
                self._needed.add(one.shard.shard)
                self._forget_damaged_copy(one.shard)
            if one.curable:
                self._act("damaged", one.path, one.why, one.action, partial(self._mend, one))
            else:
                self._add("damaged", one.path, one.why, one.action, done=False)
        if noted and not broken:
            what = f"{manifest.id} is noted as damaged and reads well"
            self._add("drift", manifest.folder, what, "note it as sound")
        if self.apply and (broken or noted):
            found = checking.inspect(self.place, manifest.run, manifest.id, progress=lambda _: None)
            if found is not None:
                checking.note(self.place, manifest.run, manifest.id, found.damage, history)

    def _mend(self, broken: healing.Broken) -> None:
        healing.heal(self.place, broken)
        _log.info("%s was put right", broken.path)

    def _forget_damaged_copy(self, shard: StoredShard) -> None:
        """Takes a damaged shard's second name away: a later save would link it as sound.

        Where that is the file's only name, the file goes to the quarantine: nothing is deleted.
        """
        folder, second = healing.second_name(shard)
        path = f"{folder}/{second.file}"
        if self.place.storage.size(path) is None:
            return
        if not healing.is_sound(self.place, folder, second):
            alone = self.place.storage.link_count(path) == 1
            self._act(
                "damaged",
                path,
                "a damaged shard that later saves would reuse",
                "move it to quarantine/" if alone else "remove this name of it",
                partial(set_aside if alone else LocalStorage.remove, self.place.storage, path),
            )

    def _strays(self, manifest: Manifest) -> None:
        for name in checking.strays_of(self.place, manifest):
            path = f"{manifest.folder}/{name}"
            what = "a file that the checkpoint's manifest does not name"
            if name.startswith(TEMPORARY_PREFIX) or name.endswith(_OURS):
                self._act(
                    "stray",
                    path,
                    what,
                    "remove it",
                    partial(discard.remove_files, self.place.storage, manifest.folder, [name]),
                )
            else:
                self._add("stray", path, what, "keep it elsewhere", done=False)

    # -- the catalog ------------------------------------------------------------------------

    def _drift(self, run: str) -> None:
        files = {record.info.id: _facts(record) for record in gather(self.place, run).checkpoints}
        rows = {r.info.id: _facts(r) for r in self.place.catalog.checkpoints(run)}
        known = self.place.catalog.run(run) is not None
        if files == rows and known:
            return
        odd = sorted(i for i in files.keys() | rows.keys() if files.get(i) != rows.get(i))
        what = f"the catalog is wrong about {', '.join(odd[:3]) or run}" + (
            f" and {len(odd) - 3} more" if len(odd) > 3 else ""
        )
        self._act(
            "drift",
            names.folder_of_run(run),
            what,
            "read the run's files again",
            partial(refresh_run, self.place, run),
        )

    # -- the store --------------------------------------------------------------------------

    def store(self) -> None:
        folders = set(self.place.run_names())
        for info in self.place.catalog.runs():
            if info.name not in folders:
                self._act(
                    "drift",
                    names.folder_of_run(info.name),
                    f"the catalog knows the run {info.name}, which has no folder",
                    "forget it",
                    partial(self.place.catalog.forget_run, info.name),
                )
        if not self.busy:
            self._leftovers("")
            for folder in self.place.storage.folders("shards"):
                self._leftovers(f"shards/{folder}")
        for folder in self.place.storage.folders("shards"):
            for name in self.place.storage.names(f"shards/{folder}"):
                self._ownerless(f"shards/{folder}/{name}")

    def _ownerless(self, path: str) -> None:
        name = path.rpartition("/")[2]
        # What a damaged checkpoint may still be healed from stays.
        needed = name.removesuffix(".safetensors") in self._needed
        if name.startswith(TEMPORARY_PREFIX) or needed:
            return
        if self.place.storage.link_count(path) == 1:
            self._act(
                "ownerless",
                path,
                f"a shard that no checkpoint holds, {self.place.storage.size(path) or 0} bytes",
                "remove it",
                partial(self.place.storage.remove, path),
            )

    def _leftovers(self, folder: str) -> None:
        for name in self.place.storage.names(folder):
            if name.startswith(TEMPORARY_PREFIX) and not _is_probing(name):
                path = f"{folder}/{name}" if folder else name
                self._act(
                    "leftover",
                    path,
                    "a file that was never finished",
                    "remove it",
                    partial(self.place.storage.remove, path),
                )

    # -- noting -----------------------------------------------------------------------------

    def _act(
        self, kind: Kind, path: str, what: str, action: str, work: Callable[[], object]
    ) -> None:
        done = False
        if self.apply:
            try:
                work()
                done = True
            except (HoldfastError, OSError) as error:
                what = f"{what}; setting it right failed: {error}"
        self._add(kind, path, what, action, done=done)

    def _add(
        self, kind: Kind, path: str, what: str, action: str, *, done: bool | None = None
    ) -> None:
        finished = self.apply if done is None else done
        self.found.append(Finding(kind, path, what, action, finished))


@contextlib.contextmanager
def _owned(place: Place, run: str, *, take: bool) -> Iterator[bool]:
    """Says whether nobody writes a run; with `take`, nobody can until the end of the block."""
    lock = place.storage.lock(f"{names.folder_of_run(run)}/{names.LOCK}")
    if not take:
        yield not lock.busy()
        return
    # A run that mirrors alone have is about to come back.
    place.storage.make_folder(names.folder_of_run(run))
    try:
        lock.acquire(timeout_s=0)
    except LockedError:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _facts(record: CheckpointRecord) -> tuple[object, ...]:
    info = record.info
    # As text: NaN differs from itself, and a NaN metric is no drift.
    metrics = repr(sorted(info.metrics.items()))
    return (record.generation, info.pinned, info.tags, info.damaged, info.items, metrics)


def _is_probing(name: str) -> bool:
    """Returns whether a file belongs to a process that is opening the store right now."""
    if not name.startswith(_PROBE):
        return False
    pid = name.removeprefix(_PROBE).partition("-")[0]
    return pid.isdigit() and os.path.exists(f"/proc/{pid}")  # noqa: PTH110 - a question, no path
