"""What a run's journal says, kept up to date by reading only what is new in it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from holdfast.engine import names
from holdfast.engine.journal import Journal, Record
from holdfast.engine.sealed import decode_metrics
from holdfast.errors import FormatError
from holdfast.model import CheckpointInfo, Decision, Fate, RunInfo, StepRow

_log = logging.getLogger("holdfast")

#: What a line with the right digest and the wrong content can lead to.
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError, FormatError)


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
        pinned: Ids of pinned checkpoints.
        tags: Checkpoint id to its tags.
        damaged: Checkpoint id to why a verification called it damaged.
        deleted: Ids of checkpoints that a plan deleted, whether or not that is done yet.
        open_plan: A clean-up that was interrupted.
        resumed_from: Id that the last resume went on from; None for a start from nothing.
        damage: Sentences about damaged lines.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._offset = 0
        self.run: RunInfo | None = None
        self.final = False
        self.saves: dict[str, SaveNote] = {}
        self.steps: list[StepRow] = []
        self.decisions: list[Decision] = []
        self.pinned: set[str] = set()
        self.tags: dict[str, set[str]] = {}
        self.damaged: dict[str, str] = {}
        self.deleted: set[str] = set()
        self.reports: dict[str, dict[str, float]] = {}
        self.open_plan = OpenPlan()
        self.resumed_from: str | None = None
        self.damage: list[str] = []
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
        for sentence in reading.damage:
            _log.warning("%s", sentence)
        self.damage.extend(reading.damage)
        for record in reading.records:
            apply = _APPLY.get(record["t"])
            if apply is None:
                continue
            try:
                apply(self, record)
            except _MALFORMED as error:
                self.damage.append(f"{self._journal.path}: a {record['t']!r} line: {error}")
            self._news.update(_checkpoints_in(record))
        return self

    def take_news(self) -> set[str]:
        """Returns the ids of the checkpoints that lines spoke of since the last call."""
        news, self._news = self._news, set()
        return news

    def overlay(self, info: CheckpointInfo) -> CheckpointInfo:
        """Returns a manifest's description with what was said of the checkpoint later."""
        late = self.reports.get(info.id)
        return replace(
            info,
            metrics={**info.metrics, **late} if late else info.metrics,
            pinned=info.id in self.pinned,
            tags=tuple(sorted(self.tags.get(info.id, ()))),
            # A manifest that cannot be read is damage that no line tells of.
            damaged=info.damaged or info.id in self.damaged,
        )

    def metrics_of(self, checkpoint_id: str) -> Mapping[str, float]:
        """Returns a checkpoint's metrics, late ones included, also after it was deleted."""
        note = self.saves.get(checkpoint_id)
        base = note.info.metrics if note else {}
        return {**base, **self.reports.get(checkpoint_id, {})}

    # -- one method per kind of line ---------------------------------------------------------

    def _run(self, record: Record) -> None:
        self.final = False
        created_at = self.run.created_at if self.run else float(record["created_at"])
        self.run = RunInfo(
            name=record["name"],
            created_at=created_at,
            status="running",
            metric=record.get("metric"),
            mode=record.get("mode"),
            config=dict(record.get("config") or {}),
            policies=dict(record.get("policies") or {}),
            parent=record.get("parent"),
            environment=dict(record.get("environment") or {}),
        )

    def _status(self, record: Record) -> None:
        self.final = bool(record.get("final"))
        if self.run is not None:
            self.run = replace(self.run, status=record["status"])

    def _resumed(self, record: Record) -> None:
        last = int(record["step"])
        self.resumed_from = record["id"]
        self.steps = [row for row in self.steps if row.step <= last]

    def _steps(self, record: Record) -> None:
        for step, at, epoch, metrics, saved, reason in record["rows"]:
            values = decode_metrics(metrics, path=self._journal.path)
            whole = None if epoch is None else int(epoch)
            row = StepRow(int(step), float(at), values, whole, bool(saved), str(reason))
            self.steps.append(row)

    def _save(self, record: Record) -> None:
        info = CheckpointInfo(
            id=record["id"],
            run=self.run.name if self.run else "",
            step=int(record["step"]),
            created_at=float(record["created_at"]),
            metrics=decode_metrics(record["metrics"], path=self._journal.path),
            kind=record["kind"],
            awaiting=tuple(record.get("awaiting") or ()),
            epoch=record.get("epoch"),
            reason=record["reason"],
            parent=record.get("parent"),
        )
        self.saves[info.id] = SaveNote(info)
        self._decide(record, "saved", info.id, info.reason)

    def _failed(self, record: Record) -> None:
        note = self.saves.get(record["id"])
        if note is not None:
            note.failed = True
        self._decide(record, "failed", record["id"], record["error"])

    def _report(self, record: Record) -> None:
        values = decode_metrics(record["metrics"], path=self._journal.path)
        self.reports.setdefault(record["id"], {}).update(values)
        self._reconsider(record["id"])

    def _pin(self, record: Record) -> None:
        self.pinned.add(record["id"])

    def _unpin(self, record: Record) -> None:
        self.pinned.discard(record["id"])

    def _tag(self, record: Record) -> None:
        self.tags.setdefault(record["id"], set()).update(record["tags"])
        self._reconsider(record["id"])

    def _untag(self, record: Record) -> None:
        self.tags.get(record["id"], set()).difference_update(record["tags"])

    def _damaged(self, record: Record) -> None:
        self.damaged[record["id"]] = record["reason"]

    def _healthy(self, record: Record) -> None:
        self.damaged.pop(record["id"], None)

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
        for checkpoint_id in (*record["deleted"], *record["thinned"]):
            if not names.is_id(checkpoint_id):
                # A deletion goes by these: none may lead out of the run's folder.
                raise ValueError(f"{checkpoint_id!r} is not the id of a checkpoint")
        self.open_plan = OpenPlan(
            deleted=tuple({*self.open_plan.deleted, *record["deleted"]}),
            thinned={
                **self.open_plan.thinned,
                **{i: tuple(items) for i, items in record["thinned"].items()},
            },
        )
        self.deleted.update(record["deleted"])
        for checkpoint_id in record["deleted"]:
            self._decide_all(record, "deleted", checkpoint_id)
            if checkpoint_id in self.saves:
                self.saves[checkpoint_id].deleted = True
        for checkpoint_id in record["thinned"]:
            self._decide_all(record, "thinned", checkpoint_id)

    def _applied(self, record: Record) -> None:
        spared = record.get("spared") or ()
        for checkpoint_id in spared:
            if checkpoint_id in self.saves:
                self.saves[checkpoint_id].deleted = False
        for checkpoint_id in record["deleted"]:
            if checkpoint_id in self.saves:
                self.saves[checkpoint_id].deleted = True
        done = {*record["deleted"], *spared}
        self.deleted = (self.deleted | set(record["deleted"])) - set(spared)
        self.open_plan = OpenPlan(
            deleted=tuple(i for i in self.open_plan.deleted if i not in done),
            thinned={
                i: items
                for i, items in self.open_plan.thinned.items()
                if i not in record["thinned"] and i not in done
            },
        )

    def _kept(self, record: Record) -> None:
        for checkpoint_id in record["reasons"]:
            self._decide_all(record, "kept", checkpoint_id)

    def _decide_all(self, record: Record, fate: Fate, checkpoint_id: str) -> None:
        sentences = record["reasons"].get(checkpoint_id) or ["no reason was noted"]
        self._decide(record, fate, checkpoint_id, "; ".join(sentences))

    def _decide(self, record: Record, fate: Fate, checkpoint_id: str, reason: str) -> None:
        note = self.saves.get(checkpoint_id)
        step = note.info.step if note else int(record.get("step", -1))
        self.decisions.append(Decision(float(record["at"]), fate, reason, step, checkpoint_id))


def _checkpoints_in(record: Record) -> list[str]:
    """Returns the ids in a line, whatever it says of them; why one is kept changes nothing."""
    named = [record.get("id")]
    for key in ("deleted", "thinned", "spared"):
        listed = record.get(key)
        named += listed if isinstance(listed, (list, dict)) else ()
    return [name for name in named if isinstance(name, str)]


_APPLY: Mapping[str, Callable[[RunHistory, Mapping[str, Any]], None]] = {
    "run": RunHistory._run,
    "status": RunHistory._status,
    "resumed": RunHistory._resumed,
    "steps": RunHistory._steps,
    "save": RunHistory._save,
    "failed": RunHistory._failed,
    "report": RunHistory._report,
    "pin": RunHistory._pin,
    "unpin": RunHistory._unpin,
    "tag": RunHistory._tag,
    "untag": RunHistory._untag,
    "damaged": RunHistory._damaged,
    "healthy": RunHistory._healthy,
    "plan": RunHistory._plan,
    "applied": RunHistory._applied,
    "kept": RunHistory._kept,
}  # fmt: skip
