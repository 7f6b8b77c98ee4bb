"""What interrupted work and damage left in a store, and setting it right without deleting anything.

No checkpoint is ever deleted here: what cannot be set right is named, and left as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from holdfast.engine import discard, names
from holdfast.engine.manifest import Manifest
from holdfast.errors import ConfigError, HoldfastError, NotFoundError
from holdfast.lifecycle import checking
from holdfast.lifecycle.findings import Findings, Found
from holdfast.lifecycle.history import RunHistory
from holdfast.lifecycle.mending import Mender
from holdfast.lifecycle.ownership import Standing, note_interrupted, standing
from holdfast.lifecycle.place import Place
from holdfast.lifecycle.prune import finish_interrupted
from holdfast.lifecycle.recovering import Errand, Mirrors
from holdfast.lifecycle.reindex import record_of, record_without_manifest, refresh_run
from holdfast.lifecycle.remembering import remember
from holdfast.lifecycle.sweeping import catalog_is_sound, leftovers, sweep
from holdfast.model import CheckpointRecord

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
    if catalog_is_sound(place, found):
        mirrors = Mirrors.of(place)
        mender = Mender(place, found, mirrors.usable)
        work = _Repair(place, found, mender, mirrors, progress or _ignore)
        runs = sorted({*place.run_names(), *mirrors.runs()})
        busy = [run for run in runs if not work.run(run)]
        sweep(place, found, needed=mender.needed, busy=bool(busy))
    return Findings(tuple(found.findings), tuple(busy))


class _Repair:
    """A look at run after run.

    Args:
        place: The store.
        found: Where findings go.
        mender: Looks at the files of each checkpoint.
        mirrors: What the store lost is taken from them first.
        progress: As `repair`.
    """

    def __init__(
        self, place: Place, found: Found, mender: Mender, mirrors: Mirrors, progress: Progress
    ) -> None:
        self.place = place
        self.found = found
        self.apply = found.apply
        self._mender = mender
        self._mirrors = mirrors
        self._progress = progress
        #: Journals and checkpoints that a mirror gives back, or would.
        self._given_back: set[str] = set()

    # -- a run ------------------------------------------------------------------------------

    def run(self, run: str) -> bool:
        """Looks at a run; returns False where another process writes it."""
        if self.apply:
            # One that mirrors alone have is about to come back, and its lock lies in its folder.
            self.place.storage.make_folder(names.folder_of_run(run))
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
        if stands.mine:
            self._take_from_mirrors(self._mirrors.journal_errands(run))
        history = RunHistory(self.place.journal(run)).refresh()
        if stands.mine:
            if self.apply:
                # What no mirror has, and before the catalog is told what the files say.
                remember(self.place, run, history)
            # Before the rest: what is brought back is no save that was never finished.
            self._take_from_mirrors(self._mirrors.checkpoint_errands(run, history))
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

    def _take_from_mirrors(self, errands: Iterable[Errand]) -> None:
        for errand in errands:
            self._given_back.add(errand.path)
            self.found.act("damaged", errand.path, errand.what, errand.action, errand.work)

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
            if _manifest_path(run, checkpoint_id) in self._given_back:
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
        if journal.path in self._given_back and not self.apply:
            return
        lost = "restore it from a copy; what it said beside its manifests is lost otherwise"
        for sentence in history.damage:
            self.found.leave("damaged", journal.path, sentence, lost)
        length = journal.nbytes
        if not length or (length < relied_on and not history.was_cut):
            what = "the journal is missing"
            if length:
                what = f"it has {length} bytes, and a checkpoint relies on {relied_on}: it was cut"
            self.found.leave("damaged", journal.path, what, lost)

    def _damaged_manifest(
        self, run: str, checkpoint_id: str, what: str, history: RunHistory
    ) -> None:
        path = _manifest_path(run, checkpoint_id)
        if path in self._given_back and not self.apply:
            return
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
        doubted = _manifest_path(run, checkpoint_id) in self._given_back
        self._mender.mend(manifest, history, noted=noted, doubted=doubted)
        if mine and checkpoint_id not in history.open_plan.thinned:
            self._mender.strays(manifest)
        return manifest

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


def _manifest_path(run: str, checkpoint_id: str) -> str:
    return f"{names.folder_of_checkpoint(run, checkpoint_id)}/{names.MANIFEST}"


def _facts(record: CheckpointRecord) -> tuple[object, ...]:
    info = record.info
    # As text: NaN differs from itself, and a NaN metric is no drift.
    metrics = repr(sorted(info.metrics.items()))
    return (record.generation, info.pinned, info.tags, info.damaged, info.items, metrics)


def _ignore(_: int) -> None:
    pass
