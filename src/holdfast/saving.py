"""A run's saves: copied on the training thread, made durable, catalogued and pruned behind it."""

from __future__ import annotations

import contextlib
import logging
import os
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from holdfast import announcements
from holdfast.catalog import Catalog
from holdfast.checkpoint import Checkpoint
from holdfast.engine import discard, names
from holdfast.engine.background import Backlog, Job, Pending, Worker
from holdfast.engine.commit import ParentShards, commit
from holdfast.engine.manifest import Manifest
from holdfast.engine.sealed import encode_numbers
from holdfast.engine.snapshot import ArenaPool, Snapshot
from holdfast.errors import FormatError, HoldfastError, IntegrityError, NotFoundError
from holdfast.lifecycle.history import RunHistory
from holdfast.lifecycle.place import Place
from holdfast.lifecycle.prune import apply_plan
from holdfast.lifecycle.reindex import refresh_run
from holdfast.model import CheckpointRecord, Decision, Plan
from holdfast.policy.retention import KeepPolicy
from holdfast.recorder import StepRecorder
from holdfast.tree import Flat

_log = logging.getLogger("holdfast")

_RECENT: Final = 32

BestBefore = Mapping[str, tuple[float, float]]


@dataclass(slots=True)
class Counters:
    """What became of a run's saves in this process.

    Attributes:
        saved: Durable ones.
        failed: Those that did not become durable.
        dropped: Those that back-pressure left out.
        last_error: Why the last failed one failed.
        unrecovered: Whether no save succeeded since the last failure.
        stalls_s: How long recent saves held up training, in seconds.
        writes_s: How long recent saves took from then until durable, in seconds.
    """

    saved: int = 0
    failed: int = 0
    dropped: int = 0
    last_error: HoldfastError | None = None
    unrecovered: bool = False
    stalls_s: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    writes_s: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))

    @property
    def stall_s(self) -> float | None:
        """Median of the recent stalls."""
        return statistics.median(self.stalls_s) if self.stalls_s else None

    @property
    def write_s(self) -> float | None:
        """Median of the recent times until durable."""
        return statistics.median(self.writes_s) if self.writes_s else None


class Saver:
    """Turns flattened states into durable checkpoints, one after another.

    Args:
        place: The store.
        run: The run, whose lock this process holds.
        history: What its journal says.
        recorder: Its queued rows, which go to the journal before each manifest.
        keep: What stays after each save.
        on_failure: Called with the id of a save that failed, from the saving thread.
    """

    def __init__(
        self,
        place: Place,
        run: str,
        *,
        history: RunHistory,
        recorder: StepRecorder,
        keep: KeepPolicy,
        on_failure: Callable[[str], None],
    ) -> None:
        self._place = place
        self._run = run
        self._history = history
        self._recorder = recorder
        self._keep = keep
        self._on_failure = on_failure
        self._pool = ArenaPool()
        self._worker = Worker(f"holdfast-{run}", idle=recorder.flush_quietly)
        self._parent: ParentShards | None = None
        self._parent_id: str | None = None
        self._kept_reasons: dict[str, tuple[str, ...]] = {}
        self._lock = threading.Lock()
        self._last_created = max(
            (note.info.created_at for note in history.saves.values()), default=0.0
        )
        self._ids = set(history.saves)
        self.counters = Counters()

    # -- on the training thread -------------------------------------------------------------

    def admit(self, backlog: Backlog, *, label: str) -> bool:
        """Applies back-pressure before a save is copied; returns False when it is left out."""
        if not self._worker.busy:
            return True
        if backlog == "skip":
            self.counters.dropped += 1
            return False
        if backlog == "latest":
            self._worker.drop_queued(label=label)
        else:
            self._worker.drain()
        return True

    def identify(self, now: float) -> tuple[str, float]:
        """Returns the id and the time of the next checkpoint; ids are never used twice.

        Args:
            now: Seconds since the epoch; the time returned is later than the last one's.
        """
        with self._lock:
            created_at = max(now, self._last_created + 1e-6)
            self._last_created = created_at
            serial = 1
            while self._is_taken(checkpoint_id := names.make_id(self._run, created_at, serial)):
                serial += 1
            self._ids.add(checkpoint_id)
        return checkpoint_id, created_at

    def _is_taken(self, checkpoint_id: str) -> bool:
        if checkpoint_id in self._ids:
            return True
        folder = names.folder_of_checkpoint(self._run, checkpoint_id)
        return os.path.lexists(self._place.storage.absolute(folder))

    def submit(
        self,
        draft: Manifest,
        flats: Mapping[str, Flat],
        *,
        best_before: BestBefore,
        started: float,
    ) -> Pending[Checkpoint]:
        """Copies the state and queues its save; on return the live state may change.

        Args:
            draft: The manifest but for what the arrays decide.
            flats: Item name to its flattened state.
            best_before: For announcing a new best.
            started: When the stall of training began, by `time.perf_counter`.
        """
        snapshot = self._pool.take(flats)
        copied = time.perf_counter()
        self.counters.stalls_s.append(copied - started)

        def work() -> Checkpoint:
            try:
                checkpoint = self._save(draft, snapshot, best_before)
            finally:
                snapshot.release()
            self.counters.writes_s.append(time.perf_counter() - copied)
            return checkpoint

        def settle(error: HoldfastError | None) -> None:
            self._count(draft, error)

        def drop() -> None:
            snapshot.release()
            self.counters.dropped += 1
            self._on_failure(draft.id)

        job = Job(work, settle=settle, drop=drop)
        self._worker.submit(job)
        return job.pending

    def drain(self) -> None:
        """Waits until every save is durable or has failed."""
        self._worker.drain()

    def descend_from(self, checkpoint_id: str | None) -> None:
        """Names the checkpoint that the next save descends from, and whose shards it may reuse."""
        manifest = _readable_manifest(self._place, checkpoint_id)
        self._parent_id = checkpoint_id
        self._parent = ParentShards.read(self._place.storage, manifest) if manifest else None

    def stop(self) -> None:
        """Finishes what is queued and ends the thread."""
        self._worker.stop()

    @property
    def busy(self) -> bool:
        """Whether a save is under way."""
        return self._worker.busy

    # -- on the saving thread ---------------------------------------------------------------

    def _save(self, draft: Manifest, snapshot: Snapshot, best_before: BestBefore) -> Checkpoint:
        # Known only now: a save that was under way when the state was copied may have failed.
        draft = replace(draft, parent=self._parent_id)
        note = {
            "t": "save",
            "at": draft.created_at,
            "id": draft.id,
            "step": draft.step,
            "epoch": draft.epoch,
            "created_at": draft.created_at,
            "reason": draft.reason,
            "kind": draft.kind,
            "parent": draft.parent,
            "metrics": encode_numbers(draft.metrics),
            "awaiting": list(draft.awaiting),
        }
        journal_nbytes = self._recorder.flush(note, durable=True)
        self._place.index(lambda catalog: catalog.mark_pending(self._run, draft.id))
        # Outside of what cleans up: a folder that is there already is not this save's.
        self._place.storage.make_folder(draft.folder, exclusive=True)
        try:
            committed = commit(
                self._place.storage,
                replace(draft, journal_nbytes=journal_nbytes),
                snapshot,
                parent=self._parent,
                links=self._place.links,
            )
        except BaseException:
            with contextlib.suppress(HoldfastError):
                # What cannot be removed now is removed when the run is opened again.
                discard.delete(self._place.storage, self._run, draft.id)
            raise
        self._parent = committed.shards
        self._parent_id = draft.id
        record = committed.manifest.record()
        announcements.saved(record.info, best_before=best_before)
        indexed = self._place.index(lambda catalog: self._catalogue(catalog, record))
        self._place.mark_seen(self._run)
        if indexed:
            self.retain()
        return Checkpoint(self._place, self._overlaid(record))

    def _catalogue(self, catalog: Catalog, record: CheckpointRecord) -> None:
        # Metrics may have been reported since the state was copied, here or by a process that
        # found the manifest first. Read with the catalog's write lock held: what comes later to
        # the journal comes later to the catalog, too.
        record = self._overlaid(record)
        catalog.put_checkpoint(record)
        decision = Decision(
            record.info.created_at, "saved", record.info.reason, record.info.step, record.info.id
        )
        catalog.add_decisions(self._run, [decision])
        catalog.clear_pending(record.info.id)

    def _overlaid(self, record: CheckpointRecord) -> CheckpointRecord:
        self._history.refresh()
        return replace(record, info=self._history.overlay(record.info))

    def retain(self, *, finished: bool = False) -> Plan | None:
        """Applies the keep policy; a failure is logged, and the next save tries again."""
        try:
            self._history.refresh()
            self._heal_catalog()
            known = self._place.catalog.checkpoints(self._run, order_by="created_at")
            infos = [self._history.overlay(record.info) for record in known]
            plan = self._keep.plan(infos, now=time.time(), finished=finished)
            done = apply_plan(self._place, self._run, plan, history=self._history)
            self._note_kept(plan)
        except HoldfastError as error:
            _log.error("the clean-up of %s failed and is tried again later: %s", self._run, error)
            return None
        return done

    def _heal_catalog(self) -> None:
        """Rebuilds the run's rows if a write of them failed since, for want of room say."""
        seen = self._place.catalog.sync_states().get(self._run)
        if seen is None or seen[0] < self._history.nbytes:
            _log.info("the catalog was behind on %s: brought up to date", self._run)
            refresh_run(self._place, self._run)

    def _note_kept(self, plan: Plan) -> None:
        """Notes why checkpoints stay, where that changed since the last clean-up."""
        now = time.time()
        fresh = {
            info.id: plan.reasons[info.id]
            for info in plan.kept
            if self._kept_reasons.get(info.id) != plan.reasons[info.id]
        }
        self._kept_reasons = {info.id: plan.reasons[info.id] for info in plan.kept}
        if not fresh:
            return
        steps = {info.id: info.step for info in plan.kept}
        decisions = [Decision(now, "kept", "; ".join(why), steps[i], i) for i, why in fresh.items()]
        self._place.append(
            self._run,
            [{"t": "kept", "at": now, "reasons": {i: list(why) for i, why in fresh.items()}}],
            durable=False,
            index=lambda catalog: catalog.add_decisions(self._run, decisions),
        )

    def _count(self, draft: Manifest, error: HoldfastError | None) -> None:
        counters = self.counters
        if error is None:
            counters.saved += 1
            counters.unrecovered = False
            return
        counters.failed += 1
        counters.last_error = error
        counters.unrecovered = True
        _log.error("the save of step %d of %s failed: %s", draft.step, self._run, error)
        self._on_failure(draft.id)
        failed = {
            "t": "failed",
            "at": time.time(),
            "id": draft.id,
            "step": draft.step,
            "error": error.message,
        }
        decision = Decision(time.time(), "failed", error.message, draft.step, draft.id)

        def index(catalog: Catalog) -> None:
            catalog.add_decisions(self._run, [decision])
            catalog.clear_pending(draft.id)

        try:
            self._place.append(self._run, [failed], durable=False, index=index)
        except HoldfastError as second:
            # The journal's medium fails too; the save's missing manifest says the same.
            _log.error("that failure could not be noted in the journal: %s", second)


def _readable_manifest(place: Place, checkpoint_id: str | None) -> Manifest | None:
    """Returns the manifest of a parent; None where there is none (any more), or a damaged one."""
    if checkpoint_id is None:
        return None
    try:
        return place.manifest(checkpoint_id)
    except (NotFoundError, IntegrityError, FormatError):
        # Damage is for verification and resume to report; a save just reuses nothing.
        return None
