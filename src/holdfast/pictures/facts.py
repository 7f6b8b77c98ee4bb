"""What a report says of a run, as texts in their order: the template only places them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from holdfast.insight import Mark, MarkFate, RunDetail
from holdfast.model import CheckpointRecord, reason_code
from holdfast.readable import count, moment, nbytes_text, number, shortened

#: Rows of a table at most: a page of more is slow, and nobody reads it.
MOST_ROWS: Final = 500
#: Metrics that have a column of their own.
_COLUMNS: Final = 4
#: Further values of a checkpoint that are shown at once; the others unfold.
_FEW: Final = 6
#: Characters of a configuration's value.
_LONGEST: Final = 2000

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A checkpoint in the report's table.

    Attributes:
        id: Its id; empty for a save that failed early.
        step: Its step.
        fate: ``kept``, ``thinned``, ``deleted`` or ``failed``.
        notes: What is special about it: best, pinned, tags, damaged.
        metrics: A text for each of the table's metrics.
        size: Bytes of its arrays, as text; empty for what is gone.
        saved: When it was saved.
        reason: Why it was saved.
        why: Why it was kept, thinned or deleted, or how it failed.
        more: Metadata, and metrics without a column, as many as are read at a glance.
        folded: The rest of them, nested ones first of all.
    """

    id: str
    step: int
    fate: str
    notes: tuple[str, ...]
    metrics: tuple[str, ...]
    size: str
    saved: str
    reason: str
    why: str
    more: Pairs
    folded: Pairs


def columns(detail: RunDetail) -> tuple[str, ...]:
    """Returns the metrics that checkpoints are shown with: those they have, the run's own first."""
    had = {name for record in detail.checkpoints for name in record.info.metrics}
    return tuple(metric.name for metric in detail.metrics if metric.name in had)[:_COLUMNS]


def rows(detail: RunDetail, metrics: Sequence[str]) -> tuple[list[Row], int]:
    """Returns the table's rows, the newest first, and how many were left out.

    What is there comes before what is gone when there are too many.
    """
    there = {record.info.id: record for record in detail.checkpoints}
    marks = [*detail.marks, *_unmarked(detail)]
    marks.sort(key=lambda mark: (mark.id in there, mark.at), reverse=True)
    shown = sorted(marks[:MOST_ROWS], key=lambda mark: mark.at, reverse=True)
    return [_row(mark, there.get(mark.id), metrics) for mark in shown], len(marks) - len(shown)


def _unmarked(detail: RunDetail) -> Iterator[Mark]:
    """Yields checkpoints that no decision speaks of: imported ones, or of a lost journal."""
    known = {mark.id for mark in detail.marks}
    for record in detail.checkpoints:
        info = record.info
        if info.id not in known:
            fate: MarkFate = "thinned" if info.thinned else "kept"
            yield Mark(info.id, info.step, info.created_at, fate, info.reason)


def _row(mark: Mark, record: CheckpointRecord | None, metrics: Sequence[str]) -> Row:
    info = record.info if record else None
    values = info.metrics if info else {}
    metadata = record.metadata if record else {}
    nested = {name: value for name, value in metadata.items() if isinstance(value, Mapping)}
    more = (
        *((name, number(value)) for name, value in values.items() if name not in metrics),
        *flat({name: value for name, value in metadata.items() if name not in nested}),
    )
    notes = (
        *(("best",) if mark.best else ()),
        *(("pinned",) if mark.pinned else ()),
        *(("damaged",) if mark.damaged else ()),
        *((info.kind,) if info and info.kind != "full" else ()),
        *(f"#{tag}" for tag in mark.tags),
    )
    return Row(
        mark.id,
        mark.step,
        mark.fate,
        notes,
        tuple(number(values[name]) if name in values else "" for name in metrics),
        nbytes_text(record.nbytes) if record else "",
        moment(mark.at),
        mark.reason,
        mark.why,
        more[:_FEW],
        (*more[_FEW:], *flat(nested)),
    )


def headline(detail: RunDetail) -> Pairs:
    """Returns what matters most, as names and values."""
    info = detail.info
    fates = {fate: n for fate, n in detail.fates().items() if n}
    best = detail.best.info if detail.best else None
    latest = detail.latest.info if detail.latest else None
    metric = info.metric or ""
    last = f"step {detail.last_step:,}" if detail.last_step is not None else "no step yet"
    if detail.last_at is not None:
        last += f", {moment(detail.last_at)}"
    return (
        ("State", info.status),
        ("Began", moment(info.created_at)),
        ("Last reported", last),
        (
            "Best",
            f"{metric} {number(best.metrics.get(metric))} at step {best.step:,}"
            if best
            else "none",
        ),
        (
            "Newest checkpoint",
            f"step {latest.step:,}, {reason_code(latest.reason)}" if latest else "none",
        ),
        ("Checkpoints", ", ".join(f"{n:,} {fate}" for fate, n in fates.items()) or "none"),
        *((("Saves", detail.costs.text),) if detail.costs.text else ()),
    )


def commands(detail: RunDetail, store: str) -> Pairs:
    """Returns what to type next, and what for.

    Args:
        detail: The run.
        store: The path of its store.
    """
    name = detail.info.name
    shell = f"holdfast --store {shlex.quote(store)}"
    found: list[tuple[str, str]] = []
    started = detail.info.environment.get("command")
    if isinstance(started, (list, tuple)) and started:
        folder = detail.info.environment.get("folder")
        where = f"cd {shlex.quote(str(folder))} && " if folder else ""
        line = shlex.join(["python", *map(str, started)])
        again = "Go on: the same command again; run.resume() finds its way"
        finished = detail.info.status == "finished"
        found.append(("How it was started" if finished else again, where + line))
    if detail.best is not None:
        found.append(("The best checkpoint", f"{shell} show {name}@best"))
    if detail.latest is not None:
        found.append(("The newest checkpoint", f"{shell} show {name}@latest"))
    opened = f'holdfast.open({store!r}, mode="r")'
    if detail.best is not None:
        found.append(
            ("Load the best in Python", f"{opened}.get({name + '@best'!r}).restore(model=model)")
        )
    found.append(("What a clean-up would do", f"{shell} plan {name}"))
    return tuple(found)


def storage(detail: RunDetail) -> Pairs:
    """Returns what the run takes: its own bytes, and those that other runs hold, too."""
    usage = detail.usage
    return (
        ("Checkpoints", count(usage.checkpoints, "checkpoint")),
        ("As if nothing were shared", nbytes_text(usage.nbytes)),
        ("Stored", nbytes_text(usage.stored_nbytes)),
        ("Its own: freed when the run goes", nbytes_text(usage.unique_nbytes)),
        ("Shared with other runs", nbytes_text(usage.stored_nbytes - usage.unique_nbytes)),
    )


def flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields nested values as ``("net.depth", "4")``."""
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{path}.")
        else:
            text = value if isinstance(value, str) else repr(value)
            yield path, shortened(text, _LONGEST)
