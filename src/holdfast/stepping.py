"""What happens at each step of a training loop, in its order."""

from __future__ import annotations

import logging
import operator
import re
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, SupportsIndex

from holdfast.attached import Chosen
from holdfast.checkpoint import Checkpoint
from holdfast.engine.background import Pending
from holdfast.errors import ConfigError, HoldfastError, SaveError
from holdfast.model import Kind, StepRow, Verdict, flatten_metrics
from holdfast.opening import RunOptions
from holdfast.session import Session, updates

_log = logging.getLogger("holdfast")

#: Saves for these reasons are the last chance: they never give way to back-pressure. In a joined
#: policy they may stand behind other reasons.
_URGENT = re.compile(r"(?:^|; | and )(preempted|interrupted|deadline):")


class Stepper:
    """Asks the policies at each step, and carries out what they say.

    Attributes:
        last: The last step, with all metrics reported for it.
    """

    def __init__(self, session: Session, options: RunOptions) -> None:
        self._session = session
        self._options = options
        # One step or save at a time: loops report from several threads.
        self._lock = threading.RLock()
        self._stop_state = None if options.stop is None else options.stop.start()
        self._stopped = False
        self._ended = False
        self._answered = False
        self._warned = False
        own = () if options.metric is None else (options.metric,)
        self._ranked_by = options.keep.metrics().union(own)
        self._saved_id: str | None = None
        self._metadata: Mapping[str, Any] = {}
        self._updates = updates()
        saved = session.last_saved
        self.last = StepRow(saved.step if saved else 0, time.time(), {})
        self._began = False

    @property
    def last_step(self) -> int | None:
        """The last step that is known; None before the first."""
        known = self._began or self._session.last_saved is not None
        return self.last.step if known else None

    @property
    def should_stop(self) -> bool:
        """Whether the stop policy, a signal or a deadline asks the loop to end."""
        self.note_end()
        return self._stopped or self.was_told_to_end

    @property
    def was_told_to_end(self) -> bool:
        """Whether a signal or a deadline, not the policy, asks the loop to end."""
        return self._ended or self._session.signals.preempted

    def replay(self, rows: Iterable[StepRow]) -> None:
        """Rebuilds what rests on earlier steps, after a resume."""
        self._stopped = False
        self._stop_state = None if self._options.stop is None else self._options.stop.start()
        self._saved_id = None
        self._began = False
        for row in rows:
            self._advance_stop(row.metrics)
        saved = self._session.last_saved
        if saved is not None:
            self.last = StepRow(saved.step, saved.created_at, saved.metrics, saved.epoch)

    def step(
        self,
        step: int,
        reported: Mapping[str, Any],
        *,
        epoch: int | None,
        metadata: Mapping[str, Any] | None,
    ) -> Verdict:
        """Does what `Run.step` says."""
        step, metrics = check_step(step), flatten_metrics(reported)
        with self._lock:
            return self._step(step, metrics, epoch, metadata)

    def _step(
        self,
        step: int,
        metrics: Mapping[str, float],
        epoch: int | None,
        metadata: Mapping[str, Any] | None,
    ) -> Verdict:
        self._metadata = metadata or {}
        slow = self._session.saver.watch.slow()
        if slow:
            _log.warning("%s: %s", self._session.name, slow)
        if self._began and step == self.last.step:
            verdict = self._again(metrics, epoch)
        else:
            self.last = StepRow(step, time.time(), metrics, epoch)
            self._began = True
            self._saved_id = None
            verdict = self._decide(self.last, metrics)
        self._advance_stop(metrics)
        self._updates = updates()
        urgent = _urgent(verdict)
        if self._session.signals.preempted or urgent:
            self._session.saver.drain_quietly()
            self._ended = self._ended or "deadline" in urgent
            self._answer_signal()
        if self._session.signals.interrupted:
            raise KeyboardInterrupt
        return verdict

    def save(
        self,
        row: StepRow,
        *,
        kind: Kind,
        items: Chosen,
        metadata: Mapping[str, Any] | None,
        awaiting: tuple[str, ...],
    ) -> Pending[Checkpoint]:
        """Does what `Run.save` says."""
        with self._lock:
            return self._save(row, kind, items, metadata, awaiting)

    def _save(
        self,
        row: StepRow,
        kind: Kind,
        items: Chosen,
        metadata: Mapping[str, Any] | None,
        awaiting: tuple[str, ...],
    ) -> Pending[Checkpoint]:
        started = time.perf_counter()
        reported = row
        if row.step == self.last.step:
            # What was reported at this very step belongs to its checkpoint.
            row = replace(row, metrics={**self.last.metrics, **row.metrics}, epoch=self.last.epoch)
        self._warn_of_missing_metric(row, awaiting)
        if self._session.saver.admit("wait", label=f"step {row.step}"):
            raise self._session.saver.watch.error()
        self._session.recorder.add(reported)
        checkpoint_id, pending = self._session.submit(
            row, started=started, kind=kind, items=items, metadata=metadata, awaiting=awaiting
        )
        self.last = replace(row, saved=False, reason="")
        self._began = True
        self._saved_id = checkpoint_id
        self._advance_stop(reported.metrics)
        return pending

    def save_after_error(self) -> None:
        """Takes one more checkpoint after the loop broke off, when the policy asks for it.

        Only when no optimizer step was taken since the last `step`: otherwise the state is
        somewhere between two steps, and a checkpoint of it would be called a step that it is not.
        """
        # Whoever broke off has decided what becomes of the process.
        self._session.signals.heard = True
        self._save_last("interrupted")

    def save_before_leaving(self) -> None:
        """Takes one more checkpoint where a signal came after the last `step` had decided."""
        self.note_end()
        if self._session.signals.preempted:
            self._save_last("preempted")
            self._answer_signal()

    def note_end(self) -> None:
        """Takes a signal that came so far as heard: the loop ends by it, or has ended."""
        signals = self._session.signals
        signals.heard = signals.heard or signals.preempted

    def _save_last(self, code: str) -> None:
        if not self._began or self._saved_id is not None or not self._session.open:
            return
        row = replace(self.last, at=time.time())
        interrupted = code == "interrupted"
        verdict = self._options.save.decide(self._session.moment(row, interrupted=interrupted))
        if code not in _urgent(verdict):
            return
        if updates() != self._updates:
            _log.warning("no last save: the loop broke off in the middle of a step")
            return
        self._attempt(row, verdict, row.metrics, time.perf_counter())
        self._session.saver.drain_quietly()

    def _answer_signal(self) -> None:
        """Logs, once, what became of the step at which a signal was met, and how long it took."""
        signals = self._session.signals
        if not signals.preempted or self._answered:
            return
        self._answered = True
        safe = self._saved_id is not None and not self._session.saver.counters.unrecovered
        _log.info(
            "%s: step %d is %s, %.1f s after %s",
            self._session.name,
            self.last.step,
            "durable" if safe else "not saved",
            signals.waited_s,
            signals.name,
        )

    # -- within ------------------------------------------------------------------------------

    def _again(self, metrics: Mapping[str, float], epoch: int | None) -> Verdict:
        """Adds metrics to the last step; only a step that has no checkpoint yet may get one."""
        self.last = replace(
            self.last,
            metrics={**self.last.metrics, **metrics},
            epoch=self.last.epoch if epoch is None else epoch,
        )
        if self._saved_id is None:
            return self._decide(self.last, metrics)
        verdict = Verdict(False, f"merged: the checkpoint of step {self.last.step} has them now")
        self._record(metrics, verdict)
        self._session.recorder.report(self._saved_id, metrics)
        self._session.amend(self._saved_id, metrics)
        return verdict

    def _decide(self, row: StepRow, metrics: Mapping[str, float]) -> Verdict:
        started = time.perf_counter()
        interrupted = self._session.signals.interrupted
        verdict = self._options.save.decide(self._session.moment(row, interrupted=interrupted))
        if verdict.save:
            return self._attempt(row, verdict, metrics, started)
        self._record(metrics, verdict)
        return verdict

    def _attempt(
        self, row: StepRow, verdict: Verdict, metrics: Mapping[str, float], started: float
    ) -> Verdict:
        backlog = "wait" if _urgent(verdict) else self._options.backlog
        left_out = self._session.saver.admit(backlog, label=f"step {row.step}")
        if left_out:
            verdict = Verdict(False, f"skipped: {left_out}; otherwise {verdict.reason}")
            self._record(metrics, verdict)
            return verdict
        self._warn_of_missing_metric(row)
        self._record(metrics, verdict)
        try:
            self._saved_id, _ = self._session.submit(
                replace(row, saved=True, reason=verdict.reason),
                started=started,
                metadata=self._metadata,
            )
        except HoldfastError as error:
            return self._refused(row, error)
        except Exception as error:  # noqa: BLE001 - a failing save never ends training
            wrapped = SaveError(
                f"the state could not be copied: {type(error).__name__}: {error}",
                hint="see its cause: a state_dict() that raised, or no memory for the copy",
            )
            wrapped.__cause__ = error
            return self._refused(row, wrapped)
        return verdict

    def _refused(self, row: StepRow, error: HoldfastError) -> Verdict:
        self._session.note_refusal(row, error)
        return Verdict(False, f"failed: {error.message}")

    def _record(self, metrics: Mapping[str, float], verdict: Verdict) -> None:
        row = self.last
        self._session.recorder.add(
            StepRow(row.step, row.at, metrics, row.epoch, verdict.save, verdict.reason)
        )

    def _advance_stop(self, metrics: Mapping[str, float]) -> None:
        if self._options.stop is None or self._stop_state is None or self._stopped:
            return
        self._stop_state, verdict = self._options.stop.advance(self._stop_state, metrics)
        if verdict.stop:
            self._stopped = True
            _log.info("%s should stop (%s)", self._session.name, verdict.reason)

    def _warn_of_missing_metric(self, row: StepRow, awaiting: tuple[str, ...] = ()) -> None:
        missing = self._ranked_by.difference(row.metrics, awaiting)
        if not missing or self._warned:
            return
        self._warned = True
        _log.warning(
            "step %d of %s is saved without its metric %s, so it ranks last; it has %s",
            row.step,
            self._session.name,
            " and ".join(repr(metric) for metric in sorted(missing)),
            ", ".join(row.metrics) or "no metrics",
        )


def _urgent(verdict: Verdict) -> frozenset[str]:
    """Returns those codes of a verdict that are a last chance."""
    return frozenset(_URGENT.findall(verdict.reason)) if verdict.save else frozenset()


def check_step(step: object) -> int:
    """Returns a step; raises `ConfigError` for what is none."""
    return _index(step, "step")


def check_epoch(epoch: object) -> int | None:
    """Returns an epoch, or None where none was given; raises `ConfigError` for what is none."""
    return None if epoch is None else _index(epoch, "epoch")


def _index(value: object, what: str) -> int:
    if isinstance(value, SupportsIndex) and not isinstance(value, bool):
        try:
            number = operator.index(value)
        except TypeError:
            # An array or tensor of floats, or of several values.
            number = -1
        if number >= 0:
            return number
    raise ConfigError(f"{what}={value!r} is no {what}", hint="pass an int, 0 or more")
