"""What a damaged journal lost and the catalog still knows, said again in the journal.

The catalog is an index, and no fact lies in it alone, until a journal is damaged: then it may be
the only one left that knows of a pin, and the next clean-up would delete what was pinned.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from holdfast.engine.sealed import encode_numbers
from holdfast.errors import HoldfastError
from holdfast.lifecycle.history import RunHistory
from holdfast.lifecycle.place import Place
from holdfast.model import CheckpointInfo, RunInfo

_log = logging.getLogger("holdfast")


def remember(place: Place, run: str, history: RunHistory) -> None:
    """Says again what the catalog knows of a run whose journal is damaged or was cut.

    Pins, tags and late metrics of checkpoints, and the run itself. That pins or tags are missing
    at a journal's end is noted as damage: they were durable before the catalog was told of them.
    Metrics of steps need not be, so their loss alone is none.

    Args:
        place: The store; nothing is done where it is only read.
        run: The run.
        history: What its journal says; it is brought up to date.
    """
    if not place.writable:
        return
    seen = place.catalog.sync_state(run)
    length = max(seen.journal_nbytes, 0) if seen is not None else 0
    if not history.damage and length <= history.nbytes:
        return
    # The catalog first: what it knows was in the journal before.
    infos = [record.info for record in place.catalog.checkpoints(run)]
    about = place.catalog.run(run)
    known = {info.id: _metrics_known(place, info, history.refresh_readable()) for info in infos}
    now = time.time()
    proof = [line for info in infos for line in _marks(info, history, now)]
    lines = proof + [line for info in infos for line in _late(info, known[info.id], now)]
    unknown = [info.id for info in infos if info.id not in history.saves]
    if not lines and not unknown:
        return
    if lines and history.run is None and about is not None:
        lines = [*_opening(about, now), *lines]
    # A journal that is gone does not begin anew with this alone: that it is missing says more.
    if (proof or unknown) and not history.damage and (lines or history.nbytes):
        lines.append({"t": "cut", "at": now, "nbytes": length})
    if not lines:
        return
    try:
        place.append(run, lines, durable=True)
        history.refresh_readable()
    except HoldfastError as error:
        _log.warning("what the journal of %s lost could not be written again: %s", run, error)
        return
    _log.warning(
        "the journal of %s is damaged: %d facts that the catalog knows are written to it again",
        run,
        len(lines),
    )


def _marks(info: CheckpointInfo, history: RunHistory, now: float) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    if info.pinned and info.id not in history.pinned:
        lines.append({"t": "pin", "at": now, "id": info.id})
    tags = sorted(set(info.tags) - history.tags.get(info.id, set()))
    if tags:
        lines.append({"t": "tag", "at": now, "id": info.id, "tags": tags})
    return lines


def _late(info: CheckpointInfo, known: dict[str, float], now: float) -> list[dict[str, Any]]:
    # As text: NaN differs from itself.
    lost = {n: v for n, v in info.metrics.items() if repr(v) != repr(known.get(n))}
    if not lost:
        return []
    return [{"t": "report", "at": now, "id": info.id, "metrics": encode_numbers(lost)}]


def _metrics_known(place: Place, info: CheckpointInfo, history: RunHistory) -> dict[str, float]:
    """Returns the metrics of a checkpoint that do not rest on the catalog."""
    try:
        base = dict(place.manifest(info.id).metrics)
    except HoldfastError:
        base = dict(history.saves[info.id].info.metrics) if info.id in history.saves else {}
    return {**base, **history.reports.get(info.id, {})}


def _opening(about: RunInfo, now: float) -> list[dict[str, Any]]:
    """Returns the lines that tell of a run what its last opening told."""
    return [
        {
            "t": "run",
            "at": now,
            "name": about.name,
            "created_at": about.created_at,
            "metric": about.metric,
            "mode": about.mode,
            "config": encode_numbers(about.config),
            "policies": dict(about.policies),
            "parent": about.parent,
            "environment": encode_numbers(about.environment),
        },
        {"t": "status", "at": now, "status": about.status, "final": False},
    ]
