"""Carrying out a plan: what it rests on is read again, it is noted, and then it is done."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial

from holdfast.catalog import Catalog
from holdfast.engine import discard, names
from holdfast.engine.manifest import Manifest
from holdfast.errors import (
    FormatError,
    HoldfastError,
    IntegrityError,
    NotFoundError,
    StorageFullError,
)
from holdfast.lifecycle.history import NO_REASON, RunHistory
from holdfast.lifecycle.place import Place
from holdfast.model import CheckpointInfo, Decision, Fate, Plan

_log = logging.getLogger("holdfast")

Replan = Callable[[tuple[CheckpointInfo, ...]], Plan]


def apply_plan(place: Place, run: str, plan: Plan, *, history: RunHistory | None = None) -> Plan:
    """Deletes and thins what a plan says of one run, as far as it still holds.

    Args:
        place: The store.
        run: The run; checkpoints of others in the plan are left alone.
        plan: The plan.
        history: The run's history, where the caller has one; it is brought up to date.

    Returns:
        What was done: the plan without the checkpoints that something was said about since it
        was made (a pin, a tag, a late metric), or that are gone already.

    Raises:
        SaveError, StorageFullError: The medium failed on the way. A later call goes on.
    """
    history = history or RunHistory(place.journal(run))
    history.refresh()
    going = [info for info in plan.deleted if info.run == run and _holds(place, history, info)]
    thinning = [info for info in plan.thinned if info.run == run and _holds(place, history, info)]
    # A claim on items makes sense only while the checkpoint still has others.
    remaining = {info.id: plan.remaining[info.id] for info in thinning}
    if going or remaining:
        _note_even_if_full(place, run, [info.id for info in going], remaining, plan.reasons)
        spared = _carry_out(
            place,
            run,
            [info.id for info in going],
            remaining,
            history=history,
        )
        going = [info for info in going if info.id not in spared]
        thinning = [info for info in thinning if info.id not in spared]
    return replace(plan, deleted=tuple(going), thinned=tuple(thinning), executor=None)


def finish_interrupted(place: Place, run: str, history: RunHistory) -> int:
    """Finishes a clean-up of this run that was interrupted; returns how many were left to do."""
    plan = history.open_plan
    left = len(plan.deleted) + len(plan.thinned)
    if left:
        _log.info("finishing an interrupted clean-up of %s: %d checkpoints", run, left)
        _carry_out(place, run, plan.deleted, plan.thinned, history=history)
    return left


def sweep_unfinished(place: Place, run: str, history: RunHistory) -> list[str]:
    """Removes what saves left behind that never became checkpoints.

    Only for the owner of the run's lock: to anyone else, such a folder may be a save under way.
    A checkpoint that was durable once and has lost its manifest is no such thing: it is set aside
    as damaged, with its files as they are.

    Returns:
        The ids whose folders were removed.
    """
    once_durable = place.catalog.ids(run)
    swept = []
    for checkpoint_id in place.checkpoint_ids(run):
        if place.has_manifest(run, checkpoint_id) or not names.belongs(checkpoint_id, run):
            continue
        if checkpoint_id in history.damaged:
            continue
        # Another process may be deleting it right now: its plan is in the journal by then.
        note = history.refresh().saves.get(checkpoint_id)
        if checkpoint_id in once_durable and not (note and note.deleted):
            _set_aside(place, run, checkpoint_id)
            continue
        discard.delete(place.storage, run, checkpoint_id)
        swept.append(checkpoint_id)
    if swept:
        _log.info("removed %d unfinished saves of %s", len(swept), run)
    return swept


def _set_aside(place: Place, run: str, checkpoint_id: str) -> None:
    reason = "its manifest is missing"
    _log.warning("%s is set aside as damaged: %s", checkpoint_id, reason)
    line = {"t": "damaged", "at": time.time(), "id": checkpoint_id, "reason": reason}
    place.append(run, [line], durable=True)


def _holds(place: Place, history: RunHistory, info: CheckpointInfo) -> bool:
    """Returns whether what the plan knew of a checkpoint is still so."""
    try:
        manifest = place.manifest(info.id)
    except NotFoundError:
        # Perhaps deleted half-way by someone who died: finishing that is always right.
        return info.id in history.open_plan.deleted
    except HoldfastError:
        # Its damage is known only now; damage is set aside, not deleted.
        return info.damaged
    now = history.overlay(manifest.record().info)
    if _said(now) != _said(info):
        _log.info("%s changed since the clean-up was planned: it stays for now", info.id)
        return False
    return True


def _said(info: CheckpointInfo) -> tuple[object, ...]:
    # As text: NaN differs from itself, and a NaN metric is no news.
    return info.pinned, info.tags, info.items, repr(sorted(info.metrics.items()))


def _note_even_if_full(
    place: Place,
    run: str,
    deleted: list[str],
    thinned: Mapping[str, tuple[str, ...]],
    reasons: Mapping[str, tuple[str, ...]],
) -> None:
    """Notes a plan; on a full disk, deletions go ahead one by one until the note has room.

    A clean-up is what gets a full disk going again, so it must not fail for want of a few bytes.
    """
    ahead = iter(deleted)
    while True:
        try:
            _note(place, run, deleted, thinned, reasons)
        except StorageFullError:
            checkpoint_id = next(ahead, None)
            if checkpoint_id is None:
                raise
            _log.warning(
                "no room to note the clean-up of %s: deleting %s first", run, checkpoint_id
            )
            # No line tells of it yet, and half a deletion does not change the run's folder.
            place.index(partial(Catalog.mark_pending, run=run, checkpoint_id=checkpoint_id))
            with place.journal(run).alone():
                discard.delete(place.storage, run, checkpoint_id)
        else:
            return


def _note(
    place: Place,
    run: str,
    deleted: list[str],
    thinned: Mapping[str, tuple[str, ...]],
    reasons: Mapping[str, tuple[str, ...]],
) -> None:
    now = time.time()
    fates: dict[str, Fate] = {
        **dict.fromkeys(deleted, "deleted"),
        **dict.fromkeys(thinned, "thinned"),
    }
    record = {
        "t": "plan",
        "at": now,
        "deleted": deleted,
        "thinned": {i: list(items) for i, items in thinned.items()},
        "reasons": {i: list(reasons.get(i, ())) for i in fates},
    }

    def index(catalog: Catalog) -> None:
        decisions = []
        for checkpoint_id, fate in fates.items():
            # Until all is done: half a deletion changes neither the journal nor the run's folder.
            catalog.mark_pending(run, checkpoint_id)
            known = catalog.get(checkpoint_id)
            step = known.info.step if known else -1
            why = "; ".join(reasons.get(checkpoint_id) or (NO_REASON,))
            decisions.append(Decision(now, fate, why, step, checkpoint_id))
        catalog.add_decisions(run, decisions)

    # Durable before the first name goes: after a crash this line says what to finish, and why.
    place.append(run, [record], durable=True, index=index)


def _carry_out(
    place: Place,
    run: str,
    deleted: Iterable[str],
    thinned: Mapping[str, tuple[str, ...]],
    *,
    history: RunHistory,
) -> set[str]:
    """Does what is noted, but for what was pinned meanwhile; returns the ids of that.

    Checkpoint by checkpoint, alone with the run's journal: whoever pins one either comes first, or
    finds it gone; and of two processes that clean up, neither writes the manifest of what the
    other one deletes or thins.
    """
    now = time.time()
    noted = [*deleted, *thinned]
    # Deletions first: thinning writes a manifest, and may need the room.
    spared = {i for i in deleted if not _delete(place, run, i, history, now=now)}
    thinner = {i: _thin(place, run, i, items, history, now=now) for i, items in thinned.items()}
    spared.update(i for i in thinned if thinner[i] is None and i in history.pinned)
    deleted = [i for i in deleted if i not in spared]
    thinned = {i: items for i, items in thinned.items() if i not in spared}
    thin = [manifest for manifest in thinner.values() if manifest is not None]

    def index(catalog: Catalog) -> None:
        for manifest in thin:
            # One that another process has deleted since must not come back into the catalog.
            if place.has_manifest(run, manifest.id):
                _put_thinned(catalog, manifest)
        for checkpoint_id in deleted:
            catalog.drop_checkpoint(checkpoint_id)
        for checkpoint_id in noted:
            catalog.clear_pending(checkpoint_id)
        catalog.add_decisions(run, [history.spared(i, at=now) for i in sorted(spared)])

    applied = {
        "t": "applied",
        "at": now,
        "deleted": deleted,
        "thinned": list(thinned),
        "spared": [],
    }
    place.append(run, [applied], durable=False, index=index)
    place.mark_seen(run)
    history.refresh()
    if deleted:
        _log.info("Deleted %d old checkpoints for %s", len(deleted), run)
    return spared


def _delete(place: Place, run: str, checkpoint_id: str, history: RunHistory, *, now: float) -> bool:
    """Deletes a checkpoint; returns False where it stays for what was said of it meanwhile."""
    with place.journal(run).alone() as append:
        history.refresh()
        # A late metric or a tag takes it out of the plan that did not know of it.
        spoken_for = checkpoint_id in history.pinned or (
            checkpoint_id not in history.open_plan.deleted
        )
        if spoken_for and place.has_manifest(run, checkpoint_id):
            # At once: noted later, it could stand behind another plan, by which it is gone.
            append([_spared(checkpoint_id, now)], durable=False)
            return False
        discard.delete(place.storage, run, checkpoint_id)
    return True


def _spared(checkpoint_id: str, now: float) -> dict[str, object]:
    spared = [checkpoint_id]
    return {"t": "applied", "at": now, "deleted": [], "thinned": [], "spared": spared}


def _put_thinned(catalog: Catalog, manifest: Manifest) -> None:
    """Tells the catalog of a thinned checkpoint, leaving what was said of it as it is there."""
    record = manifest.record()
    known = catalog.get(manifest.id)
    if known is not None:
        said = known.info
        info = replace(record.info, metrics=said.metrics, pinned=said.pinned, tags=said.tags)
        record = replace(record, info=info)
    catalog.put_checkpoint(record)


def _thin(
    place: Place,
    run: str,
    checkpoint_id: str,
    items: Iterable[str],
    history: RunHistory,
    *,
    now: float,
) -> Manifest | None:
    """Thins a checkpoint; returns None where it is pinned by now, gone or damaged."""
    with place.journal(run).alone() as append:
        if checkpoint_id in history.refresh().pinned:
            append([_spared(checkpoint_id, now)], durable=False)
            return None
        try:
            return discard.thin(place.storage, place.manifest(checkpoint_id), items)
        except NotFoundError:
            return None
        except (IntegrityError, FormatError) as error:
            # Setting it aside is for a verification; it must not keep the run from being opened.
            _log.warning("%s is not thinned: %s", checkpoint_id, error)
            return None
