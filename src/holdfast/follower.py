"""A run in those processes of a distributed job that do not write it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from holdfast import references
from holdfast.attached import Attached
from holdfast.checkpoint import Checkpoint
from holdfast.lifecycle.place import Place
from holdfast.model import Kind, Verdict, flatten_metrics
from holdfast.opening import RunOptions
from holdfast.reading import RunReader, find
from holdfast.resuming import restore, restore_newest
from holdfast.signals import SignalWatch


class FollowedSave:
    """What `save` returns where another process does the saving: nothing to wait for."""

    def wait(self, timeout: float | None = None) -> None:
        """Returns at once."""

    def done(self) -> bool:
        """Returns True."""
        return True

    def exception(self) -> None:
        """Returns None: failures are raised where the saving is done."""


class FollowingRun(RunReader):
    """A run that the process with ``RANK=0`` writes and this one only restores from.

    It has the methods of `Run`, so that one training script serves every process; it takes no lock
    and writes nothing. The signals that the save policy names ask it to stop, too: a launcher
    sends them to every process of a job.
    """

    def __init__(self, place: Place, name: str, options: RunOptions) -> None:
        super().__init__(place, name)
        self._options = options
        self._attached = Attached()
        self._stop_state = None if options.stop is None else options.stop.start()
        self._stopped = False
        self._signals = SignalWatch(options.save.signals(), interrupting=False)

    def __enter__(self) -> FollowingRun:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def attach(self, /, **items: object) -> None:
        """Names the live objects that `resume` restores; as `Run.attach`."""
        self._attached.add(items)

    def resume(self, reference: str | None = None, *, items: Iterable[str] | None = None) -> int:
        """Restores what is attached, as `Run.resume`; the generators' states are rank 0's."""
        chosen = self._attached.choose(items)
        if reference is None:
            newest = restore_newest(self._place, self.name, chosen, with_rng=False)
            return 0 if newest is None else newest.step + 1
        checkpoint = find(self._place, references.parse_in_run(reference, self.name))
        restore(checkpoint, chosen, with_rng=False)
        return checkpoint.step + 1

    def rollback(self, reference: str = "best") -> int:
        """Restores an earlier checkpoint, as `Run.rollback`."""
        return self.resume(reference)

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
        """Saves nothing; the stop policy sees the metrics of this process."""
        reported = flatten_metrics({**(metrics or {}), **more_metrics})
        if self._options.stop is not None and self._stop_state is not None and not self._stopped:
            self._stop_state, verdict = self._options.stop.advance(self._stop_state, reported)
            self._stopped = verdict.stop
        return Verdict(False, "follower: the process with RANK=0 saves")

    def save(
        self,
        step: int,
        metrics: Mapping[str, Any] | None = None,
        *,
        reason: str = "manual",
        kind: Kind = "full",
        items: object = None,
        metadata: Mapping[str, Any] | None = None,
        awaiting: Iterable[str] = (),
    ) -> FollowedSave:
        """Saves nothing: the process with ``RANK=0`` does."""
        return FollowedSave()

    def report(self, checkpoint_or_step: Checkpoint | str | int, **late_metrics: Any) -> None:
        """Reports nothing: the process with ``RANK=0`` does."""

    @property
    def should_stop(self) -> bool:
        """Whether the stop policy, or a signal that came to this process, asks the loop to end."""
        return self._stopped or self._signals.preempted

    @property
    def open(self) -> bool:
        """Whether it was not closed yet."""
        return not self._signals.idle

    def wait(self) -> None:
        """Returns at once."""

    def finish(self, metrics: Mapping[str, Any] | None = None) -> None:
        """Closes it: the process with ``RANK=0`` finishes the run."""
        self.close()

    def stats(self) -> dict[str, Any]:
        """Returns what `Run.stats` does of a process that saves nothing."""
        return {"saved": 0, "failed": 0, "dropped": 0, "in_flight": False, "last_error": None}

    def close(self) -> None:
        """Watches for signals no longer; there is no lock to give up."""
        self._signals.close()
