"""What `holdfast watch` shows, as frames: a store at a glance, and one run in detail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from holdfast.cli.charts import sparkline
from holdfast.cli.formatting import age, count, metrics_text, nbytes_text, number
from holdfast.cli.frames import Column, Frame, Grid, Words
from holdfast.cli.listing import notes
from holdfast.insight import Alert, MetricDetail, RunDetail, RunSummary, StoreSummary
from holdfast.model import reason_code

#: Bars of a sparkline.
SPARK = 24
#: Rows of a run's checkpoints and decisions at most.
NEWEST = 8
_MOST_ALERTS = 4
_EMPTY = Words("")
_RUNS = (
    Column("RUN", style="bold"),
    Column("STATUS"),
    Column("STEP", right=True),
    Column("BEST", rank=1),
    Column("SAVED", rank=2),
    Column("COURSE", rank=5),
    Column("KEPT", right=True, rank=4),
    Column("STORED", right=True, rank=3),
)
_METRICS = (
    Column("METRIC", style="bold"),
    Column("LAST", right=True),
    Column("BEST", right=True, rank=1),
    Column("COURSE", rank=2),
    Column("LOWEST", right=True, rank=3),
    Column("HIGHEST", right=True, rank=3),
)
_DECISIONS = (
    Column("DECIDED", rank=2),
    Column("STEP", right=True),
    Column("WHAT"),
    Column("WHY", wraps=True, rank=1),
)


def store_frame(summary: StoreSummary, *, name: str, now: float, height: int | None) -> Frame:
    """Returns a store at a glance: alerts first, then its runs.

    Args:
        summary: The store.
        name: What it is called.
        now: Seconds since the epoch.
        height: Lines of the terminal; None where they do not matter.
    """
    saved = summary.last_saved_at
    title = [
        name,
        count(len(summary.runs), "run"),
        count(summary.checkpoints, "checkpoint"),
        f"{nbytes_text(summary.stored_nbytes)} stored",
        *([f"last save {age(saved, now=now)}"] if saved is not None else []),
    ]
    parts: list[Words | Grid] = [Words("  ".join(title), "bold"), *_alerts(summary.alerts), _EMPTY]
    room = len(summary.runs) if height is None else max(height - len(parts) - 3, 1)
    shown = summary.runs[:room]
    if not summary.runs:
        parts.append(Words("No runs yet."))
    else:
        parts.append(Grid(_RUNS, tuple(_run_row(run, now=now) for run in shown)))
    if len(shown) < len(summary.runs):
        parts.append(Words(f"and {len(summary.runs) - len(shown):,} more", "dim"))
    return Frame(tuple(parts))


def run_frame(detail: RunDetail, *, now: float) -> Frame:
    """Returns one run in detail: alerts first, its metrics, newest checkpoints and decisions."""
    parts: list[Words | Grid] = [
        Words(f"{detail.info.name}  {detail.info.status}", "bold"),
        Words("  ".join(_facts(detail, now=now)), whole=True),
        *_alerts(detail.alerts),
    ]
    if detail.metrics:
        parts += [_EMPTY, Grid(_METRICS, tuple(map(_metric_row, detail.metrics)))]
    if detail.checkpoints:
        parts += [_EMPTY, _checkpoints(detail, now=now)]
    if detail.decisions:
        rows = tuple(
            (age(d.at, now=now), f"{d.step:,}", d.fate, _first(d.reason)) for d in detail.decisions
        )
        parts += [_EMPTY, Grid(_DECISIONS, rows)]
    return Frame(tuple(parts))


def problem_frame(problem: str, last: Frame | None) -> Frame:
    """Returns what stands there while a store cannot be read: why, and what was seen last."""
    words = Words(f"! {problem}; trying again", "bold red", whole=True)
    return Frame((words, _EMPTY, *last.parts) if last is not None else (words,))


def _facts(detail: RunDetail, *, now: float) -> Iterator[str]:
    if detail.last_step is None:
        yield "no step yet"
    else:
        reported = "" if detail.last_at is None else f", {age(detail.last_at, now=now)}"
        yield f"step {detail.last_step:,}{reported}"
    if detail.best is not None:
        best, own = detail.best.info, detail.info.metric or ""
        yield f"best {own} {number(best.metrics.get(own))} at step {best.step:,}"
    fates = ", ".join(f"{n:,} {fate}" for fate, n in detail.fates().items() if n)
    if fates:
        yield fates
    yield f"{nbytes_text(detail.usage.stored_nbytes)} stored"
    if detail.costs.medians is not None:
        stall, durable = detail.costs.medians
        yield f"saves hold up {stall:.1f} ms, durable {durable:.1f} ms later"


def _checkpoints(detail: RunDetail, *, now: float) -> Grid:
    own = detail.info.metric
    columns = (
        Column("CHECKPOINT", style="bold", rank=4),
        Column("STEP", right=True),
        Column(own or "METRICS", right=own is not None),
        Column("SAVED", rank=2),
        Column("WHY", rank=3),
        Column("NOTES", rank=1),
    )
    rows = tuple(
        (
            record.info.id,
            f"{record.info.step:,}",
            _value(record.info.metrics, own),
            age(record.info.created_at, now=now),
            reason_code(record.info.reason),
            notes(record.info),
        )
        for record in detail.checkpoints
    )
    return Grid(columns, rows)


def _first(reason: str) -> str:
    """Returns the first of a decision's reasons: a screen has no room for all of them."""
    first, more, _ = reason.partition("; ")
    return f"{first}; …" if more else first


def _alerts(alerts: Sequence[Alert]) -> list[Words]:
    lines = [
        Words(f"! {alert.text}: {alert.hint}", "red" if alert.severity == "error" else "yellow")
        for alert in alerts[:_MOST_ALERTS]
    ]
    if len(alerts) > _MOST_ALERTS:
        lines.append(Words(f"! and {len(alerts) - _MOST_ALERTS:,} more", "yellow"))
    return lines


def _run_row(run: RunSummary, *, now: float) -> tuple[str, ...]:
    best = run.best_value
    return (
        run.info.name,
        run.info.status,
        f"{run.last_step:,}" if run.last_step is not None else "-",
        f"{run.info.metric} {number(best)}" if best is not None else "",
        age(run.latest.created_at, now=now) if run.latest else "-",
        sparkline(run.spark, width=SPARK),
        f"{run.checkpoints:,}",
        nbytes_text(run.stored_nbytes),
    )


def _metric_row(metric: MetricDetail) -> tuple[str, ...]:
    return (
        metric.name,
        number(metric.last),
        number(metric.best),
        sparkline(metric.spark, width=SPARK),
        number(metric.lowest),
        number(metric.highest),
    )


def _value(metrics: Mapping[str, float], own: str | None) -> str:
    if own is None:
        return metrics_text(metrics)
    return number(metrics[own]) if own in metrics else ""
