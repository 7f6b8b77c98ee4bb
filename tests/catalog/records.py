"""Records to feed a catalog with, and what a plain list of them answers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from holdfast.model import CheckpointInfo, CheckpointRecord

STORE = "store-1"


def checkpoint(number: int, run: str = "digits", **fields: Any) -> CheckpointRecord:
    """Returns the n-th checkpoint of a run: step and time follow from the number."""
    stored = {
        name: fields.pop(name)
        for name in ("nbytes", "stored_nbytes", "generation", "metadata", "finite")
        if name in fields
    }
    facts: dict[str, Any] = {
        "id": f"{run.replace('/', '+')}_20260101_{number:06d}",
        "run": run,
        "step": number * 10,
        "created_at": 1_700_000_000.0 + number,
        "reason": "improved: loss 0.2",
    }
    return CheckpointRecord(CheckpointInfo(**(facts | fields)), **stored)


def ids(records: Iterable[CheckpointRecord]) -> list[str]:
    """Returns the ids of records, in their order."""
    return [record.info.id for record in records]


def numbers(records: Iterable[CheckpointRecord]) -> list[int]:
    """Returns the numbers that `checkpoint` made records from, in their order."""
    return [int(record.info.id.rpartition("_")[2]) for record in records]


def is_rankable(info: CheckpointInfo) -> bool:
    """Whether `best` and `latest` may answer with a checkpoint, by the words of the rule."""
    return info.kind in ("full", "weights") and not info.damaged


def plain_best(
    records: Iterable[CheckpointRecord], metric: str, mode: str
) -> CheckpointRecord | None:
    """Returns the best by the words of the rule: finite, restorable, the earlier on a tie."""
    able = [
        record
        for record in records
        if is_rankable(record.info) and math.isfinite(record.info.metrics.get(metric, math.nan))
    ]
    sign = 1 if mode == "min" else -1
    return min(
        able,
        key=lambda one: (sign * one.info.metrics[metric], one.info.created_at, one.info.id),
        default=None,
    )


def plain_latest(records: Iterable[CheckpointRecord]) -> CheckpointRecord | None:
    """Returns the newest restorable one."""
    able = [record for record in records if is_rankable(record.info)]
    return max(able, key=lambda one: (one.info.created_at, one.info.id), default=None)


def changed(record: CheckpointRecord, **fields: Any) -> CheckpointRecord:
    """Returns a record with other fields in its info."""
    return replace(record, info=replace(record.info, **fields))
