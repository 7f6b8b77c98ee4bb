"""Looking things up: a checkpoint by what is known of it, and a run without its lock."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from holdfast import display, references
from holdfast.catalog import Cursor, Tail
from holdfast.checkpoint import Checkpoint
from holdfast.engine import names
from holdfast.errors import ConfigError, HoldfastError, NotFoundError
from holdfast.lifecycle.place import Place
from holdfast.lifecycle.reindex import refresh_run
from holdfast.model import (
    CheckpointRecord,
    Decision,
    Mode,
    RunInfo,
    RunStatus,
    SaveTimes,
    StepRow,
    metric_mode,
)

_ATTEMPTS = 3
START: Final = Cursor()


@dataclass(frozen=True, slots=True)
class Explanation:
    """What was decided about a step or a checkpoint, from the first word to the last.

    Attributes:
        run: Name of the run.
        step: The step.
        checkpoint: The checkpoint that was asked about, or the step's newest; None where none
            exists (any more).
        rows: What calls of `Run.step` reported and decided at this step.
        decisions: Decisions on the checkpoint, or on all that the step ever had; oldest first.
    """

    run: str
    step: int
    checkpoint: Checkpoint | None
    rows: tuple[StepRow, ...]
    decisions: tuple[Decision, ...]


class RunReader:
    """A run to read: no lock is taken, and nothing is written but what is said of checkpoints.

    Attributes:
        name: The run's name.
    """

    def __init__(self, place: Place, name: str) -> None:
        self._place = place
        self.name = name

    def __repr__(self) -> str:
        return f"<Run {self.name}>"

    def _repr_html_(self) -> str:
        """Returns what a notebook shows; of a run that cannot be read, why not."""
        try:
            newest = [c.info for c in self.checkpoints(limit=display.MOST_ROWS)]
            held = self._place.catalog.count(self.name)
            return display.run_html(self.info, newest, checkpoints=held)
        except HoldfastError as error:
            return display.unreadable_html(repr(self), error.message)

    @property
    def info(self) -> RunInfo:
        """The run as its last opening described it, with its status as it is now.

        Raises:
            NotFoundError: The store has no such run (any more).
        """
        info = self._place.catalog.run(self.name)
        if info is None:
            raise no_such_run(self._place, self.name)
        if info.status == "running" and not self._is_owned():
            return replace(info, status="interrupted")
        return info

    @property
    def status(self) -> RunStatus:
        """``running``, ``finished``, ``failed`` or ``interrupted`` (its owner died)."""
        return self.info.status

    @property
    def metric(self) -> str | None:
        """What "best" means for it, where it was said."""
        return self.info.metric

    @property
    def config(self) -> Mapping[str, object]:
        """The configuration that its last opening passed."""
        return self.info.config

    def best(self, metric: str | None = None, *, mode: Mode | None = None) -> Checkpoint:
        """Returns the restorable checkpoint that is best by a metric.

        Args:
            metric: The metric; the run's own where left out.
            mode: Its direction, where neither its name nor the run says it.

        Raises:
            NotFoundError: No checkpoint has a finite value of it.
            ConfigError: No metric, or no direction is known.
        """
        info = self.info
        metric = metric or info.metric
        if metric is None:
            raise ConfigError(
                f"the run {self.name} has no metric of its own, so 'best' says nothing",
                hint="name one: best('val_loss')",
            )
        own = info.mode if metric == info.metric else None
        return find_best(self._place, metric, metric_mode(metric, mode or own), run=self.name)

    def latest(self) -> Checkpoint:
        """Returns the newest restorable checkpoint; raises `NotFoundError` where there is none."""
        return find_latest(self._place, self.name)

    def checkpoints(
        self,
        *,
        where: str | None = None,
        order_by: str = "-created_at",
        limit: int | None = None,
    ) -> list[Checkpoint]:
        """Returns its checkpoints, newest first."""
        found = self._place.catalog.checkpoints(
            self.name, where=where, order_by=order_by, limit=limit
        )
        return [Checkpoint(self._place, record) for record in found]

    def history(self, metric: str) -> list[tuple[int, float]]:
        """Returns ``(step, value)`` of a metric, as it was reported."""
        return self._place.catalog.history(self.name, metric)

    def metric_names(self) -> list[str]:
        """Returns the names of all metrics that it reported, sorted."""
        return self._place.catalog.metric_names(self.name)

    def steps(self, *, after: int | None = None) -> list[StepRow]:
        """Returns what its calls of `step` reported and decided."""
        return self._place.catalog.steps(self.name, after=after)

    def steps_since(self, cursor: Cursor = START) -> Tail[StepRow]:
        """Returns what its calls of `step` reported and decided since a cursor.

        A page that shows a running training asks again and again, and is told each row once:
        ``tail = run.steps_since(tail.cursor)``.

        Args:
            cursor: Where the last answer ended; left out, the beginning.
        """
        return self._place.catalog.steps_since(self.name, cursor)

    def decisions_since(self, cursor: Cursor = START) -> Tail[Decision]:
        """Returns what was decided since a cursor, as `steps_since`."""
        return self._place.catalog.decisions_since(self.name, cursor)

    def times_since(self, cursor: Cursor = START) -> Tail[SaveTimes]:
        """Returns how long its saves took since a cursor, as `steps_since`."""
        return self._place.catalog.times_since(self.name, cursor)

    def decisions(
        self, *, checkpoint_id: str | None = None, step: int | None = None
    ) -> list[Decision]:
        """Returns what was decided, and why; oldest first."""
        return self._place.catalog.decisions(self.name, checkpoint_id=checkpoint_id, step=step)

    def get(self, reference: str) -> Checkpoint:
        """Returns a checkpoint of this run: ``best``, ``best:loss``, ``step:400``, or an id."""
        return find(self._place, references.parse_in_run(reference, self.name))

    def _is_owned(self) -> bool:
        return self._place.storage.lock(f"{names.folder_of_run(self.name)}/{names.LOCK}").busy()


def find(place: Place, reference: references.Reference) -> Checkpoint:
    """Returns the checkpoint that a reference chooses.

    Raises:
        NotFoundError: There is none.
    """
    if reference.by == "best":
        return RunReader(place, reference.run).best(reference.value or None)
    if reference.by == "latest":
        return find_latest(place, reference.run)
    for _ in range(_ATTEMPTS):
        record = _look_up(place, reference)
        if record is not None and place.has_manifest(record.info.run, record.info.id):
            return Checkpoint(place, record)
        if record is None and not _on_disk(place, reference):
            break
        refresh_run(place, reference.run)
    require_run(place, reference.run)
    raise NotFoundError(
        f"the run {reference.run} has no checkpoint {reference.by} {reference.value!r}",
        hint=f"`holdfast ls {reference.run}` lists what it has",
        nearest=_nearest(reference.value, place.checkpoint_ids(reference.run)),
    )


def explain(place: Place, reference: references.Reference) -> Explanation:
    """Returns what was decided about a step or a checkpoint, also where none exists any more.

    Raises:
        NotFoundError: Nothing is known of it.
    """
    require_run(place, reference.run)
    if reference.by in ("best", "latest", "tag"):
        reference = references.Reference(reference.run, "id", find(place, reference).id)
    by_id = reference.by == "id"
    record = _look_up(place, reference)
    decisions = place.catalog.decisions(
        reference.run,
        checkpoint_id=reference.value if by_id else None,
        step=None if by_id else int(reference.value),
    )
    if record is not None:
        step = record.info.step
    elif by_id:
        step = max((decision.step for decision in decisions), default=-1)
    else:
        step = int(reference.value)
    rows = tuple(r for r in place.catalog.steps(reference.run, after=step - 1) if r.step == step)
    if record is None and not decisions and (by_id or not rows):
        raise NotFoundError(
            f"nothing is known of {reference.by} {reference.value!r} of {reference.run}",
            hint=f"`holdfast ls {reference.run}` lists its checkpoints",
            nearest=_nearest(reference.value, place.checkpoint_ids(reference.run)),
        )
    checkpoint = Checkpoint(place, record) if record is not None else None
    return Explanation(reference.run, step, checkpoint, rows, tuple(decisions))


def find_best(place: Place, metric: str, mode: Mode, *, run: str | None) -> Checkpoint:
    """Returns the restorable checkpoint that is best by a metric, in a run or in all.

    Raises:
        NotFoundError: None has a finite value of it.
    """
    for _ in range(_ATTEMPTS):
        record = place.catalog.best(metric, mode, run=run)
        if record is None:
            break
        if place.has_manifest(record.info.run, record.info.id):
            return Checkpoint(place, record)
        refresh_run(place, record.info.run)
    if run is not None:
        require_run(place, run)
    known = place.catalog.metric_names(run)
    raise NotFoundError(
        f"no restorable checkpoint{f' of {run}' if run else ''} has a finite {metric!r}",
        hint=f"metrics that were reported: {', '.join(known) or 'none'}",
        nearest=_nearest(metric, known),
    )


def find_latest(place: Place, run: str | None) -> Checkpoint:
    """Returns the newest restorable checkpoint, of a run or of all.

    Raises:
        NotFoundError: There is none.
    """
    for _ in range(_ATTEMPTS):
        record = place.catalog.latest(run)
        if record is None:
            break
        if place.has_manifest(record.info.run, record.info.id):
            return Checkpoint(place, record)
        refresh_run(place, record.info.run)
    if run is not None:
        require_run(place, run)
    raise NotFoundError(
        f"{f'the run {run}' if run else place.label} has no restorable checkpoint yet",
        hint="checkpoints that hold metrics only cannot be restored",
    )


def require_run(place: Place, run: str) -> None:
    """Raises `NotFoundError`, with the nearest name, for a run that does not exist."""
    if place.catalog.run(run) is None:
        raise no_such_run(place, run)


def no_such_run(place: Place, run: str) -> NotFoundError:
    """Returns the error for a run that does not exist, with the nearest name."""
    known = place.catalog.run_names()
    nearest = _nearest(run, known)
    return NotFoundError(
        f"{place.label} has no run {run!r}",
        hint=f"did you mean {nearest[0]!r}?" if nearest else "`holdfast runs` lists what there is",
        nearest=nearest,
    )


def _look_up(place: Place, reference: references.Reference) -> CheckpointRecord | None:
    if reference.by == "step":
        return place.catalog.at_step(reference.run, int(reference.value))
    if reference.by == "tag":
        return place.catalog.tagged(reference.run, reference.value)
    return place.catalog.get(reference.value)


def _on_disk(place: Place, reference: references.Reference) -> bool:
    return reference.by == "id" and place.has_manifest(reference.run, reference.value)


def _nearest(name: str, known: Iterable[str]) -> tuple[str, ...]:
    return tuple(difflib.get_close_matches(name, list(known), n=3))
