"""What a run's journal says, kept up to date by reading only what is new in it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast, get_args

from holdfast.engine import names
from holdfast.engine.journal import Journal, Record
from holdfast.engine.members import integer, moment, optional, size, text_list, typed
from holdfast.engine.sealed import decode_metrics
from holdfast.errors import ConfigError, FormatError, IntegrityError
from holdfast.lifecycle.linemembers import (
    attached,
    checkpoints_in,
    id_of,
    ids_in,
    one_of,
    thinned_in,
)
from holdfast.model import (
    KINDS,
    CheckpointInfo,
    Decision,
    Fate,
    Kind,
    Mode,
    RunInfo,
    RunStatus,
    SaveTimes,
    StepRow,
)

_log = logging.getLogger("holdfast")

#: What is said of a decision whose plan gave no reason.
NO_REASON: Final = "no reason was noted"

#: What a line with the right digest and the wrong content can lead to.
_MALFORMED = (
    KeyError, TypeError, ValueError, AttributeError, OverflowError, ConfigError, FormatError,
)  # fmt: skip


@dataclass(slots=True)
class SaveNote:
    """A save as the journal tells of it: what is known even after its checkpoint is gone."""

    info: CheckpointInfo
    failed: bool = False
    deleted: bool = False


@dataclass(slots=True)
class OpenPlan:
    """A clean-up that was decided and not yet noted as done."""

    deleted: tuple[str, ...] = ()
    thinned: dict[str, tuple[str, ...]] = field(default_factory=dict)


class RunHistory:
    """The facts in a run's journal.

    Attributes:
        run: The run, as its last opening described it; None where the journal tells nothing.
        final: Whether the run was finished for good: only then the keep policy rules alone.
        saves: Checkpoint id to what its save noted, in order; failed and deleted ones included.
        steps: Rows of `Run.step` that count: those before a resume and past its step are void.
        decisions: What was decided about saves and checkpoints, in order.
        times: How long saves took, in order.
        pinned: Ids of pinned checkpoints.
        tags: Checkpoint id to its tags.
        damaged: Checkpoint id to why a verification called it damaged.
        deleted: Ids of checkpoints that a plan deleted, whether or not that is done yet.
        verified: Checkpoint id to when it was last read in full and found sound.
        open_plan: A clean-up that was interrupted.
        resumed_from: Id that the last resume went on from; None for a start from nothing.
        damage: Sentences about damaged lines.
        was_cut: Whether the end of it was lost once; `damage` says so then.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._offset = 0
        self._alien = False
        self.run: RunInfo | None = None
        self.final = False
        self.saves: dict[str, SaveNote] = {}
        self.steps: list[StepRow] = []
        self.decisions: list[Decision] = []
        self.times: list[SaveTimes] = []
        self.pinned: set[str] = set()
        self.tags: dict[str, set[str]] = {}
        self.damaged: dict[str, str] = {}
        self.deleted: set[str] = set()
        self.verified: dict[str, float] = {}
        self.reports: dict[str, dict[str, float]] = {}
        self.open_plan = OpenPlan()
        self.resumed_from: str | None = None
        self.damage: list[str] = []
        self.was_cut = False
        self._news: set[str] = set()

    @property
    def gone(self) -> set[str]:
        """Ids of checkpoints whose deletion is done, by the word of the journal."""
        return self.deleted - set(self.open_plan.deleted)

    @property
    def nbytes(self) -> int:
        """Length of the part of the journal that was read."""
        return self._offset

    def refresh(self) -> RunHistory:
        """Reads what was appended since, by any process; returns itself."""
        reading = self._journal.read(start=self._offset)
        self._offset = max(self._offset, reading.nbytes)
        # The end of a journal is read again each time, until a line feed ends it.
        fresh = [sentence for sentence in reading.damage if sentence not in self.damage]
        for sentence in fresh:
            _log.warning("%s", sentence)
        self.damage.extend(fresh)
        for record in reading.records:
            apply = _APPLY.get(record["t"])
            if apply is None or self._is_alien(record):
                continue
            try:
                apply(self, record)
            except _MALFORMED as error:
                self.damage.append(f"{self._journal.path}: a {record['t']!r} line: {error}")
            self._news.update(checkpoints_in(record))
        return self

    def refresh_readable(self) -> RunHistory:
        """Does what `refresh` does, and takes a journal that cannot be read as one more damage.

        For looking at a store as a whole, which one unreadable journal must not hinder. Whoever
        decides what is deleted uses `refresh`: the pins that it cannot see would not protect.
        """
        try:
            self.refresh()
        except (IntegrityError, FormatError) as error:
            if error.message not in self.damage:
                _log.warning("%s", error)
                self.damage.append(error.message)
        return self

    def take_news(self) -> set[str]:
        """Returns the ids of the checkpoints that lines spoke of since the last call."""
        news, self._news = self._news, set()
        return news

    def overlay(self, info: CheckpointInfo) -> CheckpointInfo:
        """Returns a manifest's description with what was said of the checkpoint later."""
        late = self.reports.get(info.id)
        tags = self.tags.get(info.id, set())
        # Behind a damaged line there may be a pin, or a tag: what the catalog knows still protects.
        doubt = bool(self.damage)
        return replace(
            info,
            metrics={**info.metrics, **late} if late else info.metrics,
            pinned=info.id in self.pinned or (doubt and info.pinned),
            tags=tuple(sorted(tags.union(info.tags) if doubt else tags)),
            # A manifest that cannot be read is damage that no line tells of.
            damaged=info.damaged or info.id in self.damaged,
        )

    def metrics_of(self, checkpoint_id: str) -> Mapping[str, float]:
        """Returns a checkpoint's metrics, late ones included, also after it was deleted."""
        note = self.saves.get(checkpoint_id)
        base = note.info.metrics if note else {}
        return {**base, **self.reports.get(checkpoint_id, {})}

    def spared(self, checkpoint_id: str, *, at: float) -> Decision:
        """Returns the decision that keeps what a plan meant to take, for more was said of it."""
        note = self.saves.get(checkpoint_id)
        why = "pinned, tagged or scored since the clean-up was planned: it stays"
        return Decision(at, "kept", why, note.info.step if note else -1, checkpoint_id)

    def _is_alien(self, record: Record) -> bool:
        """Returns whether a line belongs to another run: each opening says whose journal it is."""
        if record["t"] == "run" and "/" in self._journal.path:
            own = names.run_of_folder(self._journal.path.split("/")[-2])
            alien = record.get("name") != own
            if alien and not self._alien:
                said = f"{record.get('name')!r:.80}"
                self.damage.append(f"{self._journal.path} holds lines of the run {said}")
            self._alien = alien
        return self._alien

    # -- one method per kind of line ---------------------------------------------------------

    def _run(self, record: Record) -> None:
        created_at = moment(record["created_at"])
        info = RunInfo(
            name=names.check_run(record["name"]),
            created_at=self.run.created_at if self.run else created_at,
            status="running",
            metric=optional(record.get("metric"), str),
            mode=cast("Mode | None", one_of(record.get("mode"), (*get_args(Mode), None))),
            config=attached(record, "config"),
            policies={n: typed(p, str) for n, p in attached(record, "policies").items()},
            parent=optional(record.get("parent"), str),
            environment=attached(record, "environment"),
        )
        self.final, self.run = False, info

    def _status(self, record: Record) -> None:
        status = cast("RunStatus", one_of(record["status"], get_args(RunStatus)))
        self.final = bool(record.get("final"))
        if self.run is not None:
            self.run = replace(self.run, status=status)

    def _resumed(self, record: Record) -> None:
        last, resumed_from = integer(record["step"]), optional(record["id"], str)
        self.resumed_from = resumed_from
        self.steps = [row for row in self.steps if row.step <= last]

    def _steps(self, record: Record) -> None:
        for step, at, epoch, metrics, saved, reason in typed(record["rows"], list):
            values = decode_metrics(metrics, path=self._journal.path)
            whole = None if epoch is None else integer(epoch)
            row = StepRow(size(step), moment(at), values, whole, bool(saved), typed(reason, str))
            self.steps.append(row)

    def _save(self, record: Record) -> None:
        epoch = record.get("epoch")
        info = CheckpointInfo(
            id=id_of(record),
            run=self.run.name if self.run else "",
            step=size(record["step"]),
            created_at=moment(record["created_at"]),
            metrics=decode_metrics(record["metrics"], path=self._journal.path),
            kind=cast("Kind", one_of(record["kind"], KINDS)),
            awaiting=text_list(record.get("awaiting") or []),
            epoch=None if epoch is None else integer(epoch),
            reason=typed(record["reason"], str),
            parent=optional(record.get("parent"), str),
        )
        self.saves[info.id] = SaveNote(info)
        self._decide(record, "saved", info.id, info.reason)

    def _failed(self, record: Record) -> None:
        checkpoint_id, error = id_of(record), typed(record["error"], str)
        note = self.saves.get(checkpoint_id)
        if note is not None:
            note.failed = True
        self._decide(record, "failed", checkpoint_id, error)

    def _report(self, record: Record) -> None:
        values = decode_metrics(record["metrics"], path=self._journal.path)
        checkpoint_id = id_of(record)
        self.reports.setdefault(checkpoint_id, {}).update(values)
        self._reconsider(checkpoint_id)

    def _took(self, record: Record) -> None:
        for named, step, at, *seconds in typed(record["rows"], list):
            (checkpoint_id,), (stall, write) = ids_in([named]), map(moment, seconds)
            self.times.append(SaveTimes(checkpoint_id, size(step), moment(at), stall, write))

    def _pin(self, record: Record) -> None:
        self.pinned.add(id_of(record))

    def _unpin(self, record: Record) -> None:
        self.pinned.discard(id_of(record))

    def _tag(self, record: Record) -> None:
        checkpoint_id, tags = id_of(record), text_list(record["tags"])
        self.tags.setdefault(checkpoint_id, set()).update(map(names.check_tag, tags))
        self._reconsider(checkpoint_id)

    def _untag(self, record: Record) -> None:
        self.tags.get(id_of(record), set()).difference_update(text_list(record["tags"]))

    def _damaged(self, record: Record) -> None:
        checkpoint_id = id_of(record)
        self.damaged[checkpoint_id] = typed(record["reason"], str)
        self.verified.pop(checkpoint_id, None)

    def _healthy(self, record: Record) -> None:
        checkpoint_id, at = id_of(record), moment(record["at"])
        self.damaged.pop(checkpoint_id, None)
        self.verified[checkpoint_id] = at

    def _verified(self, record: Record) -> None:
        at = moment(record["at"])
        for checkpoint_id in ids_in(record["ids"]):
            # Found damaged by another process while this one read it: that is the later word.
            if checkpoint_id not in self.damaged:
                self.verified[checkpoint_id] = at

    def _cut(self, record: Record) -> None:
        self.damage.append(f"{self._journal.path} had {size(record['nbytes'])} bytes: it was cut")
        self.was_cut = True

    def _reconsider(self, checkpoint_id: str) -> None:
        """Takes a checkpoint out of an interrupted plan that did not know what is said now."""
        plan = self.open_plan
        if checkpoint_id in plan.deleted:
            left = tuple(i for i in plan.deleted if i != checkpoint_id)
            self.open_plan = OpenPlan(left, plan.thinned)
            self.deleted.discard(checkpoint_id)
            if checkpoint_id in self.saves:
                self.saves[checkpoint_id].deleted = False

    def _plan(self, record: Record) -> None:
        deleted, thinned = ids_in(record["deleted"]), thinned_in(record["thinned"])
        reasons = [*self._reasons(record, "deleted", deleted)]
        reasons += self._reasons(record, "thinned", thinned)
        self.open_plan = OpenPlan(
            deleted=tuple({*self.open_plan.deleted, *deleted}),
            thinned={**self.open_plan.thinned, **thinned},
        )
        self.deleted.update(deleted)
        self.decisions += reasons
        for checkpoint_id in deleted:
            if checkpoint_id in self.saves:
                self.saves[checkpoint_id].deleted = True

    def _applied(self, record: Record) -> None:
        spared, deleted = ids_in(record.get("spared") or []), ids_in(record["deleted"])
        thinned = ids_in(record["thinned"])
        for checkpoint_id in spared:
            if checkpoint_id in self.saves:
                self.saves[checkpoint_id].deleted = False
            self.decisions.append(self.spared(checkpoint_id, at=moment(record["at"])))
        for checkpoint_id in deleted:
            if checkpoint_id in self.saves:
                self.saves[checkpoint_id].deleted = True
        done = {*deleted, *spared}
        self.deleted = (self.deleted | set(deleted)) - set(spared)
        self.open_plan = OpenPlan(
            deleted=tuple(i for i in self.open_plan.deleted if i not in done),
            thinned={
                i: items
                for i, items in self.open_plan.thinned.items()
                if i not in thinned and i not in done
            },
        )

    def _kept(self, record: Record) -> None:
        self.decisions += self._reasons(record, "kept", ids_in(list(record["reasons"])))

    def _reasons(self, record: Record, fate: Fate, ids: Iterable[str]) -> list[Decision]:
        said = typed(record["reasons"], dict)
        return [
            self._decision(record, fate, i, "; ".join(text_list(said.get(i) or [NO_REASON])))
            for i in ids
        ]

    def _decide(self, record: Record, fate: Fate, checkpoint_id: str, reason: str) -> None:
        self.decisions.append(self._decision(record, fate, checkpoint_id, reason))

    def _decision(self, record: Record, fate: Fate, checkpoint_id: str, reason: str) -> Decision:
        note = self.saves.get(checkpoint_id)
        step = note.info.step if note else integer(record.get("step", -1))
        return Decision(moment(record["at"]), fate, reason, step, checkpoint_id)


_APPLY: Mapping[str, Callable[[RunHistory, Mapping[str, Any]], None]] = {
    "run": RunHistory._run,
    "status": RunHistory._status,
    "resumed": RunHistory._resumed,
    "steps": RunHistory._steps,
    "save": RunHistory._save,
    "failed": RunHistory._failed,
    "report": RunHistory._report,
    "took": RunHistory._took,
    "pin": RunHistory._pin,
    "unpin": RunHistory._unpin,
    "tag": RunHistory._tag,
    "untag": RunHistory._untag,
    "damaged": RunHistory._damaged,
    "healthy": RunHistory._healthy,
    "verified": RunHistory._verified,
    "cut": RunHistory._cut,
    "plan": RunHistory._plan,
    "applied": RunHistory._applied,
    "kept": RunHistory._kept,
}  # fmt: skip
