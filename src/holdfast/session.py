"""A run while this process writes it: what the next save measures against and goes through."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from holdfast import frameworks
from holdfast.attached import Attached, Chosen
from holdfast.checkpoint import Checkpoint
from holdfast.engine.background import Pending
from holdfast.engine.layout import Late
from holdfast.engine.manifest import Manifest
from holdfast.errors import ConfigError, HoldfastError, SaveError
from holdfast.lifecycle.place import Place
from holdfast.lineage import Lineage
from holdfast.model import CheckpointInfo, Decision, Kind, Moment, RunStatus, StepRow
from holdfast.opening import OpenedRun, RunOptions
from holdfast.recorder import StepRecorder
from holdfast.saving import Saver
from holdfast.signals import SignalWatch

_log = logging.getLogger("holdfast")


class Session:
    """One opening of a run, from its lock to its status.

    Attributes:
        attached: The live objects.
        recorder: Queued rows of `Run.step`.
        saver: The way of a save.
        signals: What asked the run to end.
        status: ``running`` until it is closed, then how it ended.
    """

    def __init__(self, place: Place, opened: OpenedRun, options: RunOptions) -> None:
        self._place = place
        self._opened = opened
        self._options = options
        self._lock = threading.Lock()
        self._raised: HoldfastError | None = None
        self._listening: dict[str, Callable[[], None]] = {}
        self.name = opened.name
        self.status: RunStatus = "running"
        self.attached = Attached()
        self.recorder = StepRecorder(place, opened.name)
        self.saver = Saver(
            place,
            opened.name,
            history=opened.history,
            recorder=self.recorder,
            keep=options.keep,
            memory=options.memory_nbytes,
            on_failure=self._forget,
        )
        self.signals = SignalWatch(
            options.save.signals(), interrupting=options.save.uses("interrupted")
        )
        self._lineage = Lineage()
        self._set_lineage(_newest(opened))
        # What the last owner did not come to, and whether the mirrors are there at all.
        self.saver.mirrors.wish()

    # -- lineage -----------------------------------------------------------------------------

    @property
    def last_saved(self) -> CheckpointInfo | None:
        """The newest checkpoint of this lineage, saves in flight included."""
        with self._lock:
            return self._lineage.last

    @property
    def best(self) -> dict[str, tuple[float, float]]:
        """Metric to lowest and highest value in this lineage."""
        with self._lock:
            return dict(self._lineage.best)

    def amend(self, checkpoint_id: str, metrics: Mapping[str, float]) -> None:
        """Takes note of further metrics of a checkpoint."""
        with self._lock:
            self._lineage.amend(checkpoint_id, metrics)

    def go_on_from(self, checkpoint: Checkpoint | None) -> None:
        """Makes a checkpoint the parent of what comes next, and voids steps past it."""
        step = checkpoint.step if checkpoint else -1
        line = {
            "t": "resumed",
            "at": time.time(),
            "id": checkpoint.id if checkpoint else None,
            "step": step,
        }
        self.recorder.flush(line, durable=True)
        now = time.time()
        self._place.index(lambda c: c.void_steps(self.name, after_step=step, before_at=now))
        self._opened.history.refresh()
        self._set_lineage(checkpoint.id if checkpoint else None)

    def _set_lineage(self, checkpoint_id: str | None) -> None:
        with self._lock:
            self._lineage = Lineage.behind(self._opened.history, checkpoint_id)
        self.saver.descend_from(checkpoint_id)

    def _forget(self, checkpoint_id: str) -> None:
        with self._lock:
            self._lineage.remove(checkpoint_id)

    # -- saving ------------------------------------------------------------------------------

    def moment(self, row: StepRow, *, interrupted: bool) -> Moment:
        """Returns what the save policy may look at."""
        counters = self.saver.counters
        with self._lock:
            return Moment(
                step=row.step,
                now=row.at,
                metrics=row.metrics,
                epoch=row.epoch,
                last_saved=self._lineage.last,
                best=self._lineage.best,
                preempted=self.signals.preempted,
                interrupted=interrupted,
                stall_s=counters.stall_s,
                write_s=counters.write_s,
                started_at=self._opened.started_at,
            )

    def submit(
        self,
        row: StepRow,
        *,
        started: float,
        kind: Kind = "full",
        items: Chosen = None,
        metadata: Mapping[str, Any] | None = None,
        awaiting: tuple[str, ...] = (),
    ) -> tuple[str, Pending[Checkpoint]]:
        """Copies the state now, and makes it durable in the background.

        Args:
            row: The step, its metrics, and the reason.
            started: When training began to wait, by `time.perf_counter`.
            kind: As in `Run.save`, and so are the others.
            items: Chosen items.
            metadata: Stored with the checkpoint.
            awaiting: Metrics that are reported later.

        Returns:
            The checkpoint's id, and the save on its way.

        Raises:
            ConfigError, TreeError: The state cannot be stored.
        """
        self.signals.warn_if_replaced()
        # Asked more than once, perhaps.
        chosen = items if items is None or isinstance(items, Mapping) else tuple(items)
        checkpoint_id, created_at = self.saver.identify(time.time())
        with self._lock:
            last, best = self._lineage.last, dict(self._lineage.best)
            info = CheckpointInfo(
                id=checkpoint_id,
                run=self.name,
                step=row.step,
                created_at=created_at,
                metrics=row.metrics,
                kind=kind,
                awaiting=awaiting,
                epoch=row.epoch,
                reason=row.reason,
                parent=last.id if last else None,
            )
            self._lineage.add(info)
        try:
            pending = self.saver.submit(
                self._draft(info, metadata),
                lambda: self.attached.capture(kind, chosen),
                best_before=best,
                started=started,
                late=self._late(),
            )
        except BaseException:
            # Not even copied: no room in memory, or a device that failed.
            self._forget(checkpoint_id)
            raise
        return checkpoint_id, pending

    def _draft(self, info: CheckpointInfo, metadata: Mapping[str, Any] | None) -> Manifest:
        """Returns the manifest of a save but for what its arrays decide."""
        return Manifest(
            id=info.id,
            run=info.run,
            step=info.step,
            epoch=info.epoch,
            created_at=info.created_at,
            reason=info.reason,
            kind=info.kind,
            parent=info.parent,
            metrics=info.metrics,
            metadata=metadata or {},
            config=self._options.config,
            awaiting=info.awaiting,
            items={},
        )

    def _late(self) -> dict[str, Late]:
        """Returns what is copied beside the training, and sees to its being waited for."""
        if self._options.snapshot != "overlap":
            return {}
        for framework in frameworks.present():
            if framework.name not in self._listening:
                self._listening[framework.name] = framework.before_updates(self.saver.copier.join)
        return self.attached.late()

    def note_refusal(self, row: StepRow, error: HoldfastError) -> None:
        """Counts and logs a save that failed before anything was copied."""
        self.saver.counters.failed += 1
        self.saver.counters.last_error = error
        self.saver.counters.unrecovered = True
        _log.error("the save of step %d of %s failed: %s", row.step, self.name, error)
        decision = Decision(time.time(), "failed", error.message, row.step)
        self._place.index(lambda catalog: catalog.add_decisions(self.name, [decision]))

    # -- ending ------------------------------------------------------------------------------

    @property
    def open(self) -> bool:
        """Whether the run is still this process's."""
        return self._opened.lock.held

    def require_open(self) -> None:
        """Raises `ConfigError` when the run was closed."""
        if not self.open:
            raise ConfigError(
                f"the run {self.name} is closed",
                hint="open it again with Store.run() to go on",
            )

    def raise_failure(self) -> None:
        """Raises the last failure of a save, once, unless one succeeded since."""
        counters = self.saver.counters
        error = counters.last_error
        if counters.unrecovered and error is not None and error is not self._raised:
            self._raised = error
            raise error

    def close(self, status: RunStatus, *, final: bool = False) -> None:
        """Finishes what was promised, notes the status, and gives the lock up.

        Args:
            status: How the run ended.
            final: Whether it is over for good: only then may the keep policy take the newest
                checkpoint and what awaits a score. A loop that was just left may go on later.

        Raises:
            SaveError, StorageFullError: The last save failed and none succeeded since.
        """
        if not self.open:
            return
        try:
            self.saver.drain()
        except SaveError:
            # The medium does not answer: its lock goes when this process does.
            self.signals.close()
            raise
        self.saver.stop()
        for end in self._listening.values():
            end()
        self.status = status
        line = {"t": "status", "at": time.time(), "status": status, "final": final}
        try:
            self.recorder.flush(line, durable=True)
            self._place.index(lambda catalog: catalog.set_status(self.name, status))
            if final:
                self.saver.retain(finished=True)
        finally:
            self.signals.close()
            self._opened.lock.release()
            # The run is free for its next owner by then: a slow mirror may take its time.
            self.saver.mirrors.wish()
            self.saver.mirrors.finish()
        if self.saver.counters.unrecovered and self.saver.counters.last_error is not None:
            raise self.saver.counters.last_error


def updates() -> int:
    """Returns how many optimizer steps this process took, as far as the frameworks count them."""
    return sum(framework.updates() for framework in frameworks.present())


def _newest(opened: OpenedRun) -> str | None:
    """Returns the checkpoint that the run stood at when it was last written.

    The newest save that became durable; deleted ones count, for their metrics do.
    """
    standing = [
        note.info
        for note in opened.history.saves.values()
        if not note.failed and (note.deleted or note.info.id in opened.durable)
    ]
    return max(standing, key=lambda info: info.created_at).id if standing else None
