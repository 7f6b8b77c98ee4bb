"""Records to rows and back. Pure: no connection, no SQL."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Row

from holdfast.errors import ConfigError, IntegrityError
from holdfast.model import (
    CheckpointInfo,
    CheckpointRecord,
    Decision,
    RunInfo,
    SaveTimes,
    StepRow,
    reason_code,
)

#: A row's values, in the order of its table's columns.
Values = tuple[object, ...]
Document = dict[str, Any]

_ENCODER = json.JSONEncoder(separators=(",", ":"))

#: Kinds that `best` and `latest` may answer with (see "Which checkpoint is best" in the semantics).
RESTORABLE = frozenset({"full", "weights"})


def to_json(value: object, *, of: str) -> str:
    """Returns a value as JSON text; NaN and infinities are written so that `json.loads` reads them.

    Args:
        value: What is to be written.
        of: What it belongs to, for the message.

    Raises:
        ConfigError: The value holds something that JSON has no form for.
    """
    try:
        return _ENCODER.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{of} cannot be written as JSON: {error}",
            hint="use text, numbers, booleans, None, lists and dicts with text keys",
        ) from error


@contextmanager
def intact(*, of: str) -> Iterator[None]:
    """Turns what goes wrong in reading a row into `IntegrityError`.

    We wrote the row, so only damage to the catalog's file explains that it cannot be read.

    Args:
        of: What the row belongs to, for the message.
    """
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError(
            f"the catalog's row of {of} is damaged: {error}",
            hint="run `holdfast reindex`; checkpoints are not touched by this",
        ) from error


def rankable(info: CheckpointInfo) -> int:
    """Returns 1 for a checkpoint that `best` and `latest` may answer with, else 0."""
    return int(info.kind in RESTORABLE and not info.damaged)


def run_values(run: RunInfo) -> Values:
    """Returns a run's row."""
    document = {
        "metric": run.metric,
        "mode": run.mode,
        "config": dict(run.config),
        "policies": dict(run.policies),
        "parent": run.parent,
        "environment": dict(run.environment),
    }
    text = to_json(document, of=f"the configuration of run {run.name!r}")
    return run.name, run.created_at, run.status, text


def run_of(row: Row[Any]) -> RunInfo:
    """Returns the run that a row of ``runs`` describes."""
    with intact(of=row.name):
        return RunInfo(
            name=row.name,
            created_at=row.created_at,
            status=row.status,
            **json.loads(row.document),
        )


def checkpoint_values(record: CheckpointRecord) -> Values:
    """Returns a checkpoint's row in ``checkpoints``."""
    info = record.info
    document = {
        "reason": info.reason,
        "metrics": dict(info.metrics),
        "tags": sorted(set(info.tags)),
        "awaiting": info.awaiting,
        "items": info.items,
        "shards": dict(info.shards),
        "item_shards": dict(info.item_shards),
        "metadata": dict(record.metadata),
        "finite": dict(record.finite),
    }
    return (
        info.id,
        info.run,
        info.step,
        info.epoch,
        info.created_at,
        info.kind,
        reason_code(info.reason),
        info.pinned,
        info.thinned,
        info.damaged,
        rankable(info),
        info.parent,
        record.nbytes,
        record.stored_nbytes,
        record.generation,
        to_json(document, of=f"the metadata of {info.id}"),
    )


def checkpoint_of(row: Sequence[Any]) -> CheckpointRecord:
    """Returns the record that a row of ``checkpoints`` holds, equal to the one that was put."""
    # By position, all at once: a listing of thousands spends most of its time here.
    (
        checkpoint_id,
        run,
        step,
        epoch,
        created_at,
        kind,
        _code,
        pinned,
        thinned,
        damaged,
        _rankable,
        parent,
        nbytes,
        stored_nbytes,
        generation,
        text,
    ) = row
    with intact(of=checkpoint_id):
        document: Document = json.loads(text)
        info = CheckpointInfo(
            checkpoint_id,
            run,
            step,
            created_at,
            document["metrics"],
            bool(pinned),
            tuple(document["tags"]),
            kind,
            bool(damaged),
            tuple(document["awaiting"]),
            epoch,
            document["shards"],
            tuple(document["items"]),
            bool(thinned),
            {item: tuple(names) for item, names in document["item_shards"].items()},
            document["reason"],
            parent,
        )
        return CheckpointRecord(
            info, nbytes, stored_nbytes, generation, document["metadata"], document["finite"]
        )


def score_values(info: CheckpointInfo) -> list[Values]:
    """Returns the rows of ``scores`` for a checkpoint: its finite metrics."""
    rank = rankable(info)
    return [
        (info.id, name, info.run, rank, value, info.created_at)
        for name, value in info.metrics.items()
        if math.isfinite(value)
    ]


def tag_values(info: CheckpointInfo) -> list[Values]:
    """Returns the rows of ``tags`` for a checkpoint."""
    return [(info.id, tag, info.run, info.created_at) for tag in sorted(set(info.tags))]


def name_values(run: str, metrics: Iterable[Mapping[str, float]]) -> list[Values]:
    """Returns the rows of ``metric_names`` for the metrics of a run, each name once."""
    names: set[str] = set()
    for values in metrics:
        names.update(values)
    return [(run, name) for name in sorted(names)]


def step_values(run: str, row: StepRow) -> Values:
    """Returns a step's row in ``steps``, without its number."""
    text = to_json(dict(row.metrics), of=f"the metrics of {run} at step {row.step}")
    return run, row.step, row.at, row.epoch, row.saved, row.reason, text


def step_of(row: Row[Any]) -> StepRow:
    """Returns the step that a row of ``steps`` holds."""
    with intact(of=f"{row.run} at step {row.step}"):
        return StepRow(
            step=row.step,
            at=row.at,
            metrics=json.loads(row.metrics),
            epoch=row.epoch,
            saved=row.saved,
            reason=row.reason,
        )


def value_of(row: Row[Any], metric: str) -> float | None:
    """Returns the value of a metric in a row of ``steps``, or None where it has none."""
    with intact(of=f"step {row.step}"):
        value: float | None = json.loads(row.metrics).get(metric)
        return value


def decision_values(run: str, decision: Decision) -> Values:
    """Returns a decision's row in ``decisions``, without its number."""
    return (
        run,
        decision.at,
        decision.fate,
        decision.reason,
        decision.step,
        decision.checkpoint_id,
    )


def times_values(run: str, times: SaveTimes) -> Values:
    """Returns a row in ``times``, without its number."""
    return run, times.checkpoint_id, times.step, times.at, times.stall_s, times.write_s


def times_of(row: Row[Any]) -> SaveTimes:
    """Returns what a row of ``times`` holds."""
    return SaveTimes(row.checkpoint, row.step, row.at, row.stall_s, row.write_s)


def decision_of(row: Row[Any]) -> Decision:
    """Returns the decision that a row of ``decisions`` holds."""
    return Decision(
        at=row.at,
        fate=row.fate,
        reason=row.reason,
        step=row.step,
        checkpoint_id=row.checkpoint,
    )
