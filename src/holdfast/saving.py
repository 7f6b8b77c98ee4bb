"""A run's saves: copied on the training thread, made durable and catalogued behind it."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from holdfast import announcements
from holdfast.catalog import Catalog
from holdfast.checkpoint import Checkpoint
from holdfast.copying import Capture, Copier
from holdfast.engine import discard, names
from holdfast.engine.background import Backlog, Job, Pending, Worker
from holdfast.engine.commit import commit
from holdfast.engine.itemwriter import ParentShards
from holdfast.engine.layout import NOTHING_LATE, Late
from holdfast.engine.manifest import Manifest
from holdfast.engine.sealed import encode_numbers
from holdfast.engine.snapshot import Snapshot
from holdfast.errors import FormatError, HoldfastError, IntegrityError, NotFoundError, SaveError
from holdfast.lifecycle.history import RunHistory
from holdfast.lifecycle.place import Place
from holdfast.mirrored import MirroredRuns
from holdfast.model import CheckpointRecord, Decision, Plan, SaveTimes
from holdfast.policy.retention import KeepPolicy
from holdfast.recorder import StepRecorder
from holdfast.retaining import Retention
from holdfast.watching import Counters, SaveWatch, Timing

_log = logging.getLogger("holdfast")

BestBefore = Mapping[str, tuple[float, float]]


class Saver:
    """Turns flattened states into durable checkpoints, one after another.

    Args:
        place: The store.
        run: The run, whose lock this process holds.
        history: What its journal says.
        recorder: Its queued rows, which go to the journal before each manifest.
        keep: What stays after each save.
        memory: As `copying.Copier`.
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
        memory: int | None,
        on_failure: Callable[[str], None],
    ) -> None:
        self._place = place
        self._run = run
        self._history = history
        self._recorder = recorder
        self._on_failure = on_failure
        self._lags = False
        self._worker = Worker(f"holdfast-{run}", idle=self._rest)
        self.mirrors = MirroredRuns(place, run)
        self._retention = Retention(place, run, history=history, keep=keep)
        self._parent = ParentShards.none()
        self._parent_id: str | None = None
        self._lock = threading.Lock()
        self._last_created = max(
            (note.info.created_at for note in history.saves.values()), default=0.0
        )
        self._ids = set(history.saves)
        self.counters = Counters()
        self.watch = SaveWatch()
        self.copier = Copier(run, memory, self.counters.joins_s)

    # -- on the training thread -------------------------------------------------------------

    def admit(self, backlog: Backlog, *, label: str) -> str:
        """Applies back-pressure before a save is copied.

        Args:
            backlog: Whether to wait for room, to leave this save out, or to let it take the place
                of one that has not begun.
            label: What replaces that one, for whoever waits for it.

        Returns:
            Why the save is left out; nothing when it may go ahead.
        """
        self.copier.join()
        slots = self.copier.slots(backlog)
        if self._worker.holding < slots:
            return ""
        if backlog == "skip":
            self.counters.dropped += 1
            return "a save is under way"
        if backlog == "latest" and slots > 1:
            self._worker.drop_queued(label=label)
            return ""
        if self._worker.wait_below(slots, give_up=lambda: self.watch.stuck):
            return ""
        self.counters.dropped += 1
        return self.watch.describe()

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
        capture: Capture,
        *,
        best_before: BestBefore,
        started: float,
        late: Mapping[str, Late] = NOTHING_LATE,
    ) -> Pending[Checkpoint]:
        """Copies the state and queues its save; on return the live state may change.

        Args:
            draft: The manifest but for what the arrays decide.
            capture: Flattens the state.
            best_before: For announcing a new best.
            started: When the stall of training began, by `time.perf_counter`.
            late: As `Copier.take`.

        Raises:
            ConfigError, TreeError: The state cannot be stored.
        """
        snapshot = self.copier.take(capture, late=late, step=draft.step)
        copied = time.perf_counter()
        timing = self._timing(draft.id, draft.step)

        def work() -> Checkpoint:
            self.watch.begin(draft.step, snapshot.nbytes)
            try:
                checkpoint = self._save(draft, snapshot, best_before)
            finally:
                snapshot.release()
            self.counters.writes_s.append(time.perf_counter() - copied)
            timing.wrote(self.counters.writes_s[-1])
            return checkpoint

        def settle(error: HoldfastError | None) -> None:
            try:
                self._count(draft, error)
            finally:
                self.watch.end()

        def drop() -> None:
            snapshot.release()
            self.counters.dropped += 1
            self._on_failure(draft.id)

        def after() -> None:
            self.watch.begin(draft.step, 0, phase="cleaning up")
            try:
                self.retain()
                # What was cleaned up may have made the room that the catalog had not.
                self._lags = not self._retention.catch_up(lags=self._lags)
            finally:
                self.watch.end()
            self.mirrors.wish()

        job = Job(work, settle=settle, drop=drop, after=after, before_wait=self.copier.join)
        # The thread may be stuck before it comes to this: writing rows of the journal, say.
        self.watch.queue(draft.step, snapshot.nbytes)
        self._worker.submit(job)
        if self.copier.is_too_large(snapshot.nbytes):
            self._wait_in_place(snapshot)
        self.counters.stalls_s.append(time.perf_counter() - started)
        timing.stalled(self.counters.stalls_s[-1])
        return job.pending

    def _timing(self, checkpoint_id: str, step: int) -> Timing:
        def took(stall_s: float, write_s: float) -> None:
            self._recorder.took(SaveTimes(checkpoint_id, step, time.time(), stall_s, write_s))

        return Timing(took)

    def _wait_in_place(self, snapshot: Snapshot) -> None:
        """Waits until what is written from live memory is written, and may change again."""
        if not self._worker.wait_below(1, give_up=lambda: self.watch.stuck):
            # It may be written to from now on, so this save must not become a checkpoint.
            snapshot.revoke(self.watch.error())

    def drain(self) -> None:
        """Waits until every save is durable or has failed, and what follows is done.

        Raises:
            SaveError: The medium does not answer.
        """
        self.copier.join()
        if not self._worker.drain(give_up=lambda: self.watch.stuck):
            raise self.watch.error()

    def drain_quietly(self) -> None:
        """Waits as `drain`; a medium that does not answer is logged."""
        try:
            self.drain()
        except SaveError as error:
            _log.error("%s: %s", self._run, error)

    def descend_from(self, checkpoint_id: str | None) -> None:
        """Names the checkpoint that the next save descends from, and whose shards it may reuse."""
        manifest = _readable_manifest(self._place, checkpoint_id)
        self._parent_id = checkpoint_id
        shards = ParentShards.none()
        if manifest is not None:
            shards = ParentShards.read(self._place.storage, manifest)
        self._descend(shards)

    def _descend(self, shards: ParentShards) -> None:
        self._parent = shards
        self.copier.arrange(shards.arrangement)

    def stop(self) -> None:
        """Finishes what is queued, ends the thread, and gives the memory back."""
        self._worker.stop()
        self.copier.close()

    def retain(self, *, finished: bool = False) -> Plan | None:
        """Applies the keep policy; see `Retention.apply`."""
        return self._retention.apply(finished=finished, lags=self._lags)

    @property
    def busy(self) -> bool:
        """Whether a save is under way."""
        return self._worker.busy

    # -- on the saving thread ---------------------------------------------------------------

    def _rest(self) -> None:
        """What is done about once a second between saves."""
        self._recorder.flush_quietly()
        if self._lags:
            self._lags = not self._retention.catch_up(lags=True)

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

        def journal() -> int:
            nbytes = self._recorder.flush(
                note, durable=True, index=lambda catalog: catalog.mark_pending(self._run, draft.id)
            )
            self._place.storage.sync_folder(names.folder_of_run(self._run))
            return nbytes

        # Outside of what cleans up: a folder that is there already is not this save's.
        self._place.storage.make_folder(draft.folder, exclusive=True, durable=False)
        try:
            committed = commit(
                self._place.storage,
                draft,
                snapshot,
                parent=self._trusted(),
                links=self._place.links,
                journal=journal,
                tell=self.watch.move,
            )
        except BaseException:
            with contextlib.suppress(HoldfastError):
                # What cannot be removed now is removed when the run is opened again.
                discard.delete(self._place.storage, self._run, draft.id)
            raise
        self._descend(committed.shards)
        self._parent_id = draft.id
        record = committed.manifest.record()
        announcements.saved(record.info, best_before=best_before)
        self.watch.move("cataloguing")
        if not self._place.index(lambda catalog: self._catalogue(catalog, record)):
            self._lags = True
        return Checkpoint(self._place, self._overlaid(record))

    def _trusted(self) -> ParentShards:
        """Returns what this save may reuse: nothing of a parent that was found damaged since."""
        self._history.refresh()
        if self._parent_id in self._history.damaged:
            _log.warning(
                "%s is damaged: the next save writes all its tensors anew", self._parent_id
            )
            return self._parent.distrusted()
        return self._parent

    def _catalogue(self, catalog: Catalog, record: CheckpointRecord) -> None:
        # Metrics may have been reported since the state was copied, here or by a process that
        # found the manifest first. Read with the catalog's write lock held: what comes later to
        # the journal comes later to the catalog, too.
        record = self._overlaid(record)
        # One that another process has found and deleted already must not come back.
        if self._place.has_manifest(self._run, record.info.id):
            catalog.put_checkpoint(record)
        decision = Decision(
            record.info.created_at, "saved", record.info.reason, record.info.step, record.info.id
        )
        catalog.add_decisions(self._run, [decision])
        catalog.clear_pending(record.info.id)
        self._place.note_seen(catalog, self._run)

    def _overlaid(self, record: CheckpointRecord) -> CheckpointRecord:
        self._history.refresh()
        return replace(record, info=self._history.overlay(record.info))

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
