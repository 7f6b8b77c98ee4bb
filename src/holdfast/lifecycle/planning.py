"""Plans of a store: what a clean-up or a deletion would do to which run, and carrying it out."""

from __future__ import annotations

import contextlib
import difflib
import fnmatch
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Final

from holdfast import keep
from holdfast.engine import discard, names
from holdfast.errors import ConfigError, LockedError, NotFoundError
from holdfast.lifecycle.expression import parse_keep
from holdfast.lifecycle.healing import holders
from holdfast.lifecycle.history import RunHistory
from holdfast.lifecycle.mirroring import follow_deletion
from holdfast.lifecycle.mirrors import all_of
from holdfast.lifecycle.place import Place
from holdfast.lifecycle.prune import apply_plan, finish_interrupted, sweep_unfinished
from holdfast.model import CheckpointInfo, CheckpointRecord, Plan, RunInfo
from holdfast.policy.retention import KeepPolicy
from holdfast.storage import FolderGoneError
from holdfast.storage.local import TEMPORARY_PREFIX

_log = logging.getLogger("holdfast")

_SPARED: Final = "something was said about it since the clean-up was planned: it stays for now"


@dataclass(slots=True)
class _Merged:
    """The plans of several runs on their way to be one."""

    kept: list[CheckpointInfo] = field(default_factory=list)
    deleted: list[CheckpointInfo] = field(default_factory=list)
    thinned: list[CheckpointInfo] = field(default_factory=list)
    reasons: dict[str, tuple[str, ...]] = field(default_factory=dict)
    remaining: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def add(self, plan: Plan) -> None:
        self.kept += plan.kept
        self.deleted += plan.deleted
        self.thinned += plan.thinned
        self.reasons.update(plan.reasons)
        self.remaining.update(plan.remaining)

    def plan(self, place: Place, executor: Callable[[Plan], Plan]) -> Plan:
        return Plan(
            kept=_oldest_first(self.kept),
            deleted=_oldest_first(self.deleted),
            thinned=_oldest_first(self.thinned),
            reasons=self.reasons,
            freed_nbytes=_freed(place, self.deleted, self.thinned, self.remaining),
            remaining=self.remaining,
            executor=executor,
        )


# -- clean-up ----------------------------------------------------------------------------------


def prune(place: Place, run: str | None, policy: KeepPolicy | None) -> Plan:
    """Returns what a keep policy says about the checkpoints of a run, or of all runs.

    A run that another process writes is pruned like any other: links count the references.
    Applying the plan also finishes clean-ups that were interrupted, and removes what unfinished
    saves left behind where nobody writes the run.

    Args:
        place: The store.
        run: The run, which exists; None for all.
        policy: What to keep; None for what each run was opened with. It is completed with each
            run's metric.

    Raises:
        ConfigError: The policy needs a metric that a run has not, or a run's own policy cannot be
            read.
    """
    runs = [run] if run is not None else sorted(info.name for info in place.catalog.runs())
    merged = _Merged()
    now = time.time()
    for name in runs:
        history = RunHistory(place.journal(name)).refresh()
        about = history.run or place.catalog.run(name) or RunInfo(name, 0.0)
        chosen = _policy_of(about, policy)
        infos = known_infos(place, name, history)
        merged.add(chosen.plan(infos, now=now, finished=history.final))
    return merged.plan(place, lambda plan: _apply_prune(place, runs, plan))


def known_infos(place: Place, run: str, history: RunHistory) -> list[CheckpointInfo]:
    """Returns the checkpoints of a run as the catalog knows them and the journal completes them."""
    records = place.catalog.checkpoints(run, order_by="created_at")
    return [history.overlay(record.info) for record in records]


def _policy_of(run: RunInfo, policy: KeepPolicy | None) -> KeepPolicy:
    try:
        if policy is None:
            text = run.policies.get("keep")
            policy = parse_keep(text) if text is not None else keep.all()
        return policy.bind(run.metric, run.mode)
    except ConfigError as error:
        raise ConfigError(
            f"the run {run.name} cannot be pruned: {error.message}",
            hint=error.hint or "pass policy=",
        ) from error


def _apply_prune(place: Place, runs: Sequence[str], plan: Plan) -> Plan:
    _require_writable(place)
    done = []
    for run in runs:
        history = RunHistory(place.journal(run)).refresh()
        finish_interrupted(place, run, history)
        done.append(apply_plan(place, run, plan, history=history))
        _sweep_where_nobody_writes(place, run)
    _sweep_shards(place)
    return _outcome(place, plan, done)


def _sweep_where_nobody_writes(place: Place, run: str) -> None:
    folder = names.folder_of_run(run)
    if not place.storage.modified_ns(folder):
        return
    lock = place.storage.lock(f"{folder}/{names.LOCK}")
    try:
        lock.acquire(timeout_s=0)
    except (LockedError, FolderGoneError):
        # A folder without a manifest may be a save under way: its owner sweeps.
        return
    try:
        sweep_unfinished(place, run, RunHistory(place.journal(run)).refresh())
    finally:
        lock.release()


# -- deletion ----------------------------------------------------------------------------------


def delete_runs(place: Place, pattern: str) -> Plan:
    """Returns a plan that deletes whole runs, but for their pinned checkpoints.

    Applying it removes a run's journal and its rows in the catalog, too, once nothing is left in
    the run.

    Args:
        place: The store.
        pattern: A run's name, or a glob pattern of names, where ``*`` matches slashes as well.

    Raises:
        NotFoundError: No run's name matches; the error names the nearest ones.
        LockedError: Another process, or an open run of this one, writes a run that matches. The
            same goes for applying the plan: nothing is deleted then.
    """
    known = sorted({*(info.name for info in place.catalog.runs()), *_folders_of_runs(place)})
    runs = [pattern] if pattern in known else fnmatch.filter(known, pattern)
    if not runs:
        nearest = tuple(difflib.get_close_matches(pattern, known, n=3))
        raise NotFoundError(
            f"{place.label} has no run {pattern!r}",
            hint=f"did you mean {nearest[0]!r}?" if nearest else "`holdfast runs` lists them",
            nearest=nearest,
        )
    with _locked(place, runs):
        merged = _Merged()
        for run in runs:
            history = RunHistory(place.journal(run)).refresh()
            why = f"deleted with its run, as {pattern!r} asks"
            merged.add(_all_but_pinned(known_infos(place, run, history), why))
    return merged.plan(place, lambda plan: _apply_deletion(place, runs, plan))


def delete_checkpoint(place: Place, record: CheckpointRecord, *, asked: str) -> Plan:
    """Returns a plan that deletes one checkpoint, unless it is pinned.

    Args:
        place: The store.
        record: The checkpoint.
        asked: What was asked for, for its reason.
    """
    run = record.info.run
    history = RunHistory(place.journal(run)).refresh()
    merged = _Merged()
    merged.add(_all_but_pinned([history.overlay(record.info)], f"deleted as {asked!r} asks"))

    def execute(plan: Plan) -> Plan:
        _require_writable(place)
        done = apply_plan(place, run, plan)
        _sweep_shards(place)
        return _outcome(place, plan, [done])

    return merged.plan(place, execute)


def _all_but_pinned(infos: Iterable[CheckpointInfo], why: str) -> Plan:
    kept: list[CheckpointInfo] = []
    deleted: list[CheckpointInfo] = []
    reasons: dict[str, tuple[str, ...]] = {}
    for info in infos:
        (kept if info.pinned else deleted).append(info)
        reasons[info.id] = ("pinned: unpin it first to delete it",) if info.pinned else (why,)
    return Plan(tuple(kept), tuple(deleted), (), reasons)


def _apply_deletion(place: Place, runs: Sequence[str], plan: Plan) -> Plan:
    _require_writable(place)
    with _locked(place, runs):
        done = []
        for run in runs:
            if place.storage.modified_ns(names.folder_of_run(run)):
                history = RunHistory(place.journal(run)).refresh()
                finish_interrupted(place, run, history)
                done.append(apply_plan(place, run, plan, history=history))
                sweep_unfinished(place, run, history)
                # While there is a journal that says what was deleted.
                for mirror in all_of(place):
                    follow_deletion(place, mirror, run)
            remove_if_empty(place, run)
    _sweep_shards(place)
    return _outcome(place, plan, done)


def _locked(place: Place, runs: Iterable[str]) -> ExitStack:
    """Takes the locks of runs, all of them or none; a place that is only read just looks."""
    with ExitStack() as stack:
        for run in runs:
            folder = names.folder_of_run(run)
            lock = place.storage.lock(f"{folder}/{names.LOCK}")
            if place.writable and place.storage.modified_ns(folder):
                # Where another process deleted it just now, there is nothing to lock.
                with contextlib.suppress(FolderGoneError):
                    lock.acquire(timeout_s=0)
                    stack.callback(lock.release)
            elif lock.busy():
                raise LockedError(
                    f"{run} is being written by another process", hint="stop that process"
                )
        return stack.pop_all()


def _folders_of_runs(place: Place) -> list[str]:
    """Returns the names of all runs, and of those whose deletion was cut off at its very end."""
    return [names.run_of_folder(folder) for folder in place.storage.folders("runs")]


def remove_if_empty(place: Place, run: str) -> None:
    """Removes a run's folder and its rows, where nothing but its journal and lock is left.

    Only for the owner of the run's lock.

    Raises:
        SaveError: The medium failed; calling again goes on.
    """
    folder = names.folder_of_run(run)
    for name in place.storage.names(folder):
        if name.startswith(TEMPORARY_PREFIX):
            place.storage.remove(f"{folder}/{name}")
    if set(place.storage.names(folder)) - {names.LOCK, names.JOURNAL}:
        return
    place.index(lambda catalog: catalog.forget_run(run))
    # The lock last: whoever takes the run up from then on starts with an empty journal.
    for name in (names.JOURNAL, names.LOCK):
        place.storage.remove(f"{folder}/{name}")
    if place.storage.remove_folder(folder):
        place.storage.sync_folder("runs")
        _log.info("deleted the run %s", run)


# -- what both share ---------------------------------------------------------------------------


def _outcome(place: Place, plan: Plan, done: Iterable[Plan]) -> Plan:
    """Returns what became of a plan: what was spared is among the kept, with a reason."""
    parts = list(done)
    deleted = _oldest_first(info for part in parts for info in part.deleted)
    thinned = _oldest_first(info for part in parts for info in part.thinned)
    gone = {info.id for info in deleted}
    remaining = {info.id: plan.remaining[info.id] for info in thinned}
    spared = [info for info in plan.deleted if info.id not in gone]
    changed = {
        *(info.id for info in spared),
        *(info.id for info in plan.thinned if info.id not in remaining),
    }
    return replace(
        plan,
        kept=_oldest_first([*plan.kept, *spared]),
        deleted=deleted,
        thinned=thinned,
        remaining=remaining,
        reasons={
            checkpoint_id: (_SPARED,) if checkpoint_id in changed else why
            for checkpoint_id, why in plan.reasons.items()
        },
        freed_nbytes=_freed(place, deleted, thinned, remaining),
        executor=None,
    )


def _freed(
    place: Place,
    deleted: Iterable[CheckpointInfo],
    thinned: Iterable[CheckpointInfo],
    remaining: Mapping[str, tuple[str, ...]],
) -> int:
    """Returns the bytes of shards that no checkpoint of the store needs afterwards.

    It holds before a plan is applied and after: what stays of a checkpoint is told by its items.
    """
    going = {info.id for info in deleted}
    loose: dict[str, int] = {}
    for info in (*deleted, *thinned):
        loose.update(info.shards)
    if not loose:
        return 0
    for record in place.catalog.checkpoints():
        info = record.info
        if info.id in going:
            continue
        items = remaining.get(info.id, tuple(info.item_shards))
        for item in items:
            for shard in info.item_shards.get(item, ()):
                loose.pop(shard, None)
    return sum(loose.values())


def _oldest_first(infos: Iterable[CheckpointInfo]) -> tuple[CheckpointInfo, ...]:
    return tuple(sorted(infos, key=lambda info: (info.created_at, info.id)))


def _sweep_shards(place: Place) -> None:
    count, nbytes = discard.sweep_shards(place.storage, keep=holders(place))
    if count:
        _log.info("removed %d shards that no checkpoint holds, %d bytes", count, nbytes)


def _require_writable(place: Place) -> None:
    if not place.writable:
        raise ConfigError(
            f"{place.label} is open for reading only: the plan cannot be applied",
            hint="open it with mode='a' where it can be written",
        )
