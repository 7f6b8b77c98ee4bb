"""The catalog from the files: all of it, one run, or what it lags behind."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from holdfast.engine import names
from holdfast.engine.manifest import Manifest
from holdfast.errors import HoldfastError, NotFoundError
from holdfast.lifecycle.history import RunHistory
from holdfast.lifecycle.place import Place
from holdfast.lifecycle.remembering import remember
from holdfast.model import CheckpointInfo, CheckpointRecord, Decision, RunFacts, RunInfo

_log = logging.getLogger("holdfast")

Progress = Callable[[int], None]


def gather(place: Place, run: str, history: RunHistory | None = None) -> RunFacts:
    """Returns all facts of a run from its manifests and its journal.

    A checkpoint whose manifest is damaged is described by its journal, as damaged.

    Args:
        place: The store.
        run: The run.
        history: What its journal says, where some of it was read before.
    """
    # Before the folders are listed: what changes meanwhile makes the catalog look behind.
    modified = place.storage.modified_ns(names.folder_of_run(run))
    history = (history or RunHistory(place.journal(run))).refresh_readable()
    checkpoints = []
    pending = {*history.open_plan.deleted, *history.open_plan.thinned}
    for checkpoint_id in place.checkpoint_ids(run):
        record = _record(place, history, run, checkpoint_id)
        if record is not None:
            checkpoints.append(record)
        elif names.belongs(checkpoint_id, run):
            # Its manifest may come at any moment, and would change neither journal nor folder.
            pending.add(checkpoint_id)
    checkpoints.sort(key=lambda record: record.info.created_at)
    # The folder says which run it is: a line that names another one is not to speak for that.
    info = replace(history.run or _run_without_journal(run, checkpoints), name=run)
    if history.run is None:
        _log.warning("the run %s has no readable journal: only its manifests speak for it", run)
    return RunFacts(
        run=info,
        checkpoints=tuple(checkpoints),
        steps=tuple(history.steps),
        times=tuple(history.times),
        decisions=_that_came_true(history, checkpoints),
        journal_nbytes=history.nbytes,
        folder_mtime_ns=modified,
        pending=tuple(sorted(pending)),
    )


def reindex(place: Place, *, progress: Progress) -> int:
    """Rebuilds the whole catalog and returns the number of runs.

    Args:
        place: The store.
        progress: Called with 1 per run.
    """
    runs = place.run_names()
    # In one transaction that begins with nothing: interrupted, it never happened.
    with place.catalog.rebuilding():
        for run in runs:
            place.catalog.replace_run(gather(place, run))
            progress(1)
    return len(runs)


def catch_up(place: Place) -> int:
    """Brings the catalog up to date with the files, and returns the number of runs that lagged.

    Found without listing checkpoints: by the length of each journal, by when each run's folder
    changed, and by the saves that were noted before they began.
    """
    if place.catalog.state != "ok":
        count = reindex(place, progress=_ignore)
        if count or place.catalog.state != "empty":
            _log.warning(
                "the catalog of %s was %s: rebuilt from the files, %d runs",
                place.label,
                {"empty": "missing"}.get(place.catalog.state, place.catalog.state),
                count,
            )
        return count
    seen = place.catalog.sync_states()
    pending = {run for run, _ in place.catalog.pending()}
    found = place.marks()
    lagging = 0
    for run, mark in found.items():
        if run not in pending and seen.get(run) == mark:
            continue
        _replace(place, run)
        lagging += 1
    for gone in seen.keys() - found.keys():
        place.catalog.forget_run(gone)
    if lagging:
        _log.info(
            "the catalog of %s was behind on %d runs: brought up to date", place.label, lagging
        )
    return lagging


def refresh_run(place: Place, run: str) -> bool:
    """Brings one run of the catalog up to date, whatever it has seen.

    Returns:
        False where the catalog takes no write; that is logged.
    """
    if place.storage.modified_ns(names.folder_of_run(run)):
        return place.index(lambda catalog: catalog.replace_run(gather(place, run)))
    return place.index(lambda catalog: catalog.forget_run(run))


def _replace(place: Place, run: str) -> None:
    history = RunHistory(place.journal(run)).refresh_readable()
    # Before the rows that remember are replaced.
    remember(place, run, history)
    # The files are read with the catalog's write lock held: what a running training notes
    # meanwhile comes after it, and is not overwritten with what was read before.
    with place.catalog.transaction():
        place.catalog.replace_run(gather(place, run, history))


def _record(
    place: Place, history: RunHistory, run: str, checkpoint_id: str
) -> CheckpointRecord | None:
    if not names.belongs(checkpoint_id, run):
        _log.warning("%s lies in the folder of %s and is passed over", checkpoint_id, run)
        return None
    try:
        return record_of(place.manifest(checkpoint_id), history)
    except HoldfastError as error:
        if isinstance(error, NotFoundError) and checkpoint_id not in history.damaged:
            # A save under way, or one that was cut off: no checkpoint.
            return None
        _log.warning("%s is set aside as damaged: %s", checkpoint_id, error.message)
        return record_without_manifest(run, checkpoint_id, history)


def record_of(manifest: Manifest, history: RunHistory) -> CheckpointRecord:
    """Returns what the catalog must say of a checkpoint."""
    record = manifest.record()
    return replace(record, info=history.overlay(record.info))


def record_without_manifest(run: str, checkpoint_id: str, history: RunHistory) -> CheckpointRecord:
    """Returns what the catalog must say of a checkpoint whose manifest cannot be read."""
    note = history.saves.get(checkpoint_id)
    info = note.info if note else CheckpointInfo(checkpoint_id, run, 0, 0.0)
    return CheckpointRecord(replace(history.overlay(replace(info, run=run)), damaged=True))


def _that_came_true(
    history: RunHistory, checkpoints: list[CheckpointRecord]
) -> tuple[Decision, ...]:
    """Returns the decisions without those to save what was cut off before it was durable."""
    real = {record.info.id for record in checkpoints}
    real |= {checkpoint_id for checkpoint_id, note in history.saves.items() if note.deleted}
    return tuple(
        decision
        for decision in history.decisions
        if decision.fate != "saved" or decision.checkpoint_id in real
    )


def _run_without_journal(run: str, checkpoints: list[CheckpointRecord]) -> RunInfo:
    first = checkpoints[0].info.created_at if checkpoints else 0.0
    return RunInfo(name=run, created_at=first, status="interrupted")


def _ignore(_: int) -> None:
    pass
