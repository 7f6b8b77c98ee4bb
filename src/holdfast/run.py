"""A run, as a training loop holds it."""

from __future__ import annotations

import atexit
import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from holdfast import announcements, environment, frameworks, references
from holdfast.attached import Chosen
from holdfast.checkpoint import Checkpoint
from holdfast.engine import names
from holdfast.engine.background import Pending
from holdfast.errors import ConfigError, HoldfastError, NotFoundError
from holdfast.lifecycle.place import Place
from holdfast.model import Kind, RunStatus, StepRow, Verdict, flatten_metrics
from holdfast.opening import OpenedRun, RunOptions
from holdfast.reading import RunReader, find
from holdfast.resuming import log_differences, restore, restore_newest
from holdfast.session import Session
from holdfast.stepping import Stepper, check_epoch, check_step
from holdfast.strategy import CheckpointStrategy

_log = logging.getLogger("holdfast")


class Run(RunReader):
    """A run that this process writes; made by `Store.run`.

    Leaving its ``with`` block waits for saves under way, and raises what a late save had to say.
    """

    def __init__(self, place: Place, opened: OpenedRun, options: RunOptions) -> None:
        super().__init__(place, opened.name)
        self._options = options
        self._opened = opened
        self._session = Session(place, opened, options)
        self._stepper = Stepper(self._session, options)
        self._resumed: Checkpoint | None = None
        # What was promised is finished even if the script ends without close(), and even if
        # nothing but this refers to the run any more.
        atexit.register(self._close_quietly)

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None or not self.open:
            self.close()
            return
        self._stepper.save_after_error()
        interrupted = isinstance(error, (KeyboardInterrupt, SystemExit))
        try:
            self._leave("interrupted" if interrupted else "failed")
        except HoldfastError as late:
            # The loop's own error is on its way to the user and must not be hidden by this one.
            _log.error("on leaving %s: %s", self.name, late)

    # -- before the loop ---------------------------------------------------------------------

    def attach(self, /, **items: object) -> None:
        """Names the live objects that checkpoints are made of.

        Random number generators (Python, numpy, the frameworks in use) come along by themselves.

        Raises:
            TreeError: Something in them cannot be stored; all of it is listed with its path.
            ConfigError: A name that is not allowed.
        """
        self._session.require_open()
        nbytes = self._session.attached.add(items)
        self._session.saver.copier.warm_up(nbytes)
        late = [name for name in items if self._resumed and name in self._resumed.items]
        if late:
            _log.warning(
                "%s: %s attached after resume() and not restored: attach first",
                self.name,
                " and ".join(late),
            )
        count = self._options.keep.at_most()
        text = announcements.nbytes_text
        kept = f"{count} kept, {text(nbytes * count)}" if count is not None else "all kept"
        free = text(self._place.storage.free_nbytes())
        _log.info("%s: %s a checkpoint, %s; %s free", self.name, text(nbytes), kept, free)

    def resume(self, reference: str | None = None, *, items: Iterable[str] | None = None) -> int:
        """Restores what is attached, and returns the step to go on with.

        Args:
            reference: Which checkpoint (``"best"``, ``"step:400"``, an id, ``"other-run@latest"``);
                left out, the newest one that is full, intact and finite.
            items: Names of the items to restore; left out, all that are attached, and the random
                number generators.

        Returns:
            The saved step + 1; 0 when there is no checkpoint.

        Raises:
            NotFoundError: The reference chooses nothing.
            TreeError: The checkpoint does not fit what is attached; nothing was changed.
            IntegrityError: The checkpoint of the reference is damaged.
        """
        self._session.require_open()
        self._session.saver.drain()
        objects = self._session.attached.choose(items)
        with_rng = items is None and bool(objects)
        if reference is None:
            checkpoint = restore_newest(self._place, self.name, objects, with_rng=with_rng)
        else:
            checkpoint = find(self._place, references.parse_in_run(reference, self.name))
            restore(checkpoint, objects, with_rng=with_rng)
        self._resumed = checkpoint
        self._session.go_on_from(checkpoint)
        self._stepper.replay(self._opened.history.steps)
        log_differences(self._opened.before, self.info)
        if checkpoint is None:
            _log.info("%s starts from nothing", self.name)
            return 0
        if not objects and items is None:
            _log.warning("%s resumes before anything is attached: nothing is restored", self.name)
        _log.info("%s goes on after step %d, from %s", self.name, checkpoint.step, checkpoint.id)
        return checkpoint.step + 1

    def rollback(self, reference: str = "best") -> int:
        """Goes back to an earlier checkpoint; what comes next branches off from it.

        Returns:
            The step to go on with.

        Raises:
            NotFoundError: The reference chooses nothing.
        """
        return self.resume(reference)

    # -- in the loop -------------------------------------------------------------------------

    def step(
        self,
        step: int,
        metrics: Mapping[str, Any] | None = None,
        /,
        *,
        epoch: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        **more_metrics: Any,
    ) -> Verdict:
        """Notes a step and its metrics, and saves when the policy says so.

        A second call for the same step adds its metrics to that step and to its checkpoint.

        Args:
            step: The step just taken, 0 or more.
            metrics: Metric name to number; nested names are joined by ``/``.
            epoch: Its epoch.
            metadata: Stored with the checkpoint, if one is taken (batch, session, ...).
            **more_metrics: Further metrics.

        Returns:
            What was decided, and why.

        Raises:
            MetricError: A value is not a number.
            SaveError, StorageFullError: With ``on_save_error="raise"``, a save failed.
            KeyboardInterrupt: Ctrl-C came, and ``when.interrupted()`` has seen to it.
        """
        self._session.require_open()
        if self._options.on_save_error == "raise":
            self._session.raise_failure()
        return self._stepper.step(
            step,
            {**(metrics or {}), **more_metrics},
            epoch=check_epoch(epoch),
            metadata=metadata,
        )

    def save(
        self,
        step: int,
        metrics: Mapping[str, Any] | None = None,
        *,
        reason: str = "manual",
        kind: Kind = "full",
        items: Chosen = None,
        metadata: Mapping[str, Any] | None = None,
        awaiting: Iterable[str] = (),
    ) -> Pending[Checkpoint]:
        """Saves now, whatever the policy says; waits for a save under way first.

        Args:
            step: The step whose state this is.
            metrics: Its metrics.
            reason: Stored with the checkpoint.
            kind: ``full``, ``weights``, ``partial`` (chosen by `items`) or ``metrics``.
            items: Item names, or item name to glob patterns of its arrays; makes it ``partial``.
            metadata: Stored with the checkpoint (batch, session, ...).
            awaiting: Metrics that are reported later; until then it is not deleted.

        Returns:
            The save on its way; its `wait` returns the checkpoint once it is durable.

        Raises:
            ConfigError, MetricError, TreeError: The arguments or the state cannot be stored.
        """
        self._session.require_open()
        return self._stepper.save(
            StepRow(check_step(step), time.time(), flatten_metrics(metrics), None, True, reason),
            kind="partial" if items is not None and kind == "full" else kind,
            items=items,
            metadata=metadata,
            awaiting=tuple(awaiting),
        )

    def report(self, checkpoint_or_step: Checkpoint | str | int, **late_metrics: Any) -> None:
        """Adds metrics to a checkpoint after the fact; durable on return.

        Args:
            checkpoint_or_step: A checkpoint, a reference, or a step.
            **late_metrics: Metric name to number.

        Raises:
            NotFoundError: There is no such checkpoint.
            MetricError: A value is not a number.
        """
        checkpoint = self._named(checkpoint_or_step)
        checkpoint.report(**late_metrics)
        self._session.amend(checkpoint.id, flatten_metrics(late_metrics))

    @property
    def should_stop(self) -> bool:
        """Whether the stop policy, a signal or a deadline asks the loop to end."""
        return self._stepper.should_stop

    # -- after the loop ----------------------------------------------------------------------

    def wait(self) -> None:
        """Waits until no save is under way, nor the clean-up after one.

        Failed saves are raised on leaving the run.

        Raises:
            SaveError: The medium has not answered for minutes; it may still do.
        """
        self._session.saver.drain()
        self._session.recorder.flush_quietly()

    def finish(self, metrics: Mapping[str, Any] | None = None) -> Checkpoint:
        """Saves the final checkpoint, with what it takes to reproduce the run, and closes it.

        Args:
            metrics: Metrics of the final evaluation.

        Returns:
            The final checkpoint. After this the keep policy rules alone, and it counts like any
            other.

        Raises:
            SaveError, StorageFullError: It could not be made durable; the run stays open.
        """
        self._stepper.note_end()
        last = self._stepper.last
        seeds = {framework.name: framework.seeds() for framework in frameworks.present()}
        checkpoint = self.save(
            last.step,
            metrics,
            reason="final",
            kind="full" if self._session.attached else "metrics",
            metadata={"final": True, "environment": environment.describe_fully(seeds)},
        ).wait()
        self._announce_summary()
        self._leave("finished", final=True)
        return checkpoint

    def close(self) -> None:
        """Waits for saves, and gives the run up; another opening may go on with it.

        The newest checkpoint stays whatever the keep policy says: only `finish` says that the
        run is over.

        Raises:
            SaveError, StorageFullError: The last save failed and none succeeded since.
        """
        if not self.open:
            return
        self._stepper.save_before_leaving()
        self._announce_summary()
        self._leave("interrupted" if self._stepper.was_told_to_end else "finished")

    # -- what is known of it -----------------------------------------------------------------

    @property
    def open(self) -> bool:
        """Whether it can still be written by this process."""
        return self._session.open

    @property
    def status(self) -> RunStatus:
        """``running`` until it is closed; then how it ended."""
        return self._session.status

    def history(self, metric: str) -> list[tuple[int, float]]:
        """Returns ``(step, value)`` of a metric, up to the last call of `step`."""
        self._session.recorder.flush_quietly()
        return super().history(metric)

    def steps(self, *, after: int | None = None) -> list[StepRow]:
        """Returns what its calls of `step` reported and decided, up to the last one."""
        self._session.recorder.flush_quietly()
        return super().steps(after=after)

    @property
    def best_checkpoint_path(self) -> Path | None:
        """Folder of the best checkpoint, by the `CheckpointStrategy` if that is what keeps."""
        keep = self._options.keep
        if isinstance(keep, CheckpointStrategy):
            best = keep.best(checkpoint.info for checkpoint in self.checkpoints())
            return None if best is None else self.get(best.id).path
        try:
            return self.best().path
        except (NotFoundError, ConfigError):
            return None

    @property
    def latest_checkpoint_dir(self) -> Path:
        """Folder that holds the run's checkpoints."""
        return Path(self._place.storage.absolute(names.folder_of_run(self.name)))

    @property
    def last_step(self) -> int | None:
        """The last step that was reported or saved, by this opening or before; None without."""
        return self._stepper.last_step

    def stats(self) -> dict[str, Any]:
        """Returns what became of the saves of this process, and how long they took.

        Times are medians over recent saves, in seconds; ``best`` maps a metric to its lowest and
        highest value in this lineage; ``saving`` tells of the save under way: its step, what it
        does, bytes written, how long it has not moved; ``mirrors`` how far each one is behind.
        """
        counters = self._session.saver.counters
        last = self._session.last_saved
        return {
            "status": self.status,
            "saved": counters.saved,
            "failed": counters.failed,
            "dropped": counters.dropped,
            "in_flight": self._session.saver.busy,
            "saving": self._session.saver.watch.stats(),
            "mirrors": self._session.saver.mirrors.stats(),
            "last_error": str(counters.last_error) if counters.last_error else None,
            "stall_s": counters.stall_s,
            "join_s": counters.join_s,
            "write_s": counters.write_s,
            "best": self._session.best,
            "last_saved": last.id if last else None,
            "last_saved_at": last.created_at if last else None,
        }

    # -- within ------------------------------------------------------------------------------

    def _named(self, checkpoint_or_step: Checkpoint | str | int) -> Checkpoint:
        if isinstance(checkpoint_or_step, Checkpoint):
            return checkpoint_or_step
        self.wait()
        if isinstance(checkpoint_or_step, str):
            return self.get(checkpoint_or_step)
        return self.get(f"step:{check_step(checkpoint_or_step)}")

    def _announce_summary(self) -> None:
        self.wait()
        counters = self._session.saver.counters
        kept = len(self.checkpoints())
        counts = f"{counters.saved} checkpoints saved, {counters.failed} failed"
        lines = [f"{counts}, {counters.dropped} left out, {kept} kept"]
        try:
            best = self.best()
        except (NotFoundError, ConfigError):
            best = None
        if best is not None:
            lines.append(f"best: {best.id} ({announcements.metrics_line(best.metrics)})")
        announcements.summary(self.name, lines)

    def _leave(self, status: RunStatus, *, final: bool = False) -> None:
        atexit.unregister(self._close_quietly)
        self._session.close(status, final=final)
        self._session.signals.pass_on()

    def _close_quietly(self) -> None:
        try:
            self._session.close("interrupted")
        except HoldfastError as error:
            _log.error("on leaving %s: %s", self.name, error)
