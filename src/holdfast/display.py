"""What a notebook shows of a store, a run and a checkpoint: small tables in the page's colours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from holdfast.model import CheckpointInfo, CheckpointRecord, RunInfo
from holdfast.readable import count, moment, nbytes_text, number, printable

#: Rows of a table at most: what stands in a notebook is looked at, not searched.
MOST_ROWS = 10
#: No colour is named: a notebook in the dark has its own.
_FRAME = "text-align:left;border-collapse:collapse;color:inherit;background:transparent"
_CELL = "text-align:left;vertical-align:top;padding:0.15em 1em 0.15em 0"


def checkpoint_html(record: CheckpointRecord) -> str:
    """Returns a checkpoint as HTML."""
    info = record.info
    facts = [
        ("step", f"{info.step:,}" + (f", epoch {info.epoch}" if info.epoch is not None else "")),
        ("saved", moment(info.created_at)),
        ("why", info.reason),
        ("metrics", _metrics(info)),
        ("items", ", ".join(info.items)),
        ("size", nbytes_text(record.nbytes)),
        ("notes", _notes(info)),
    ]
    return _titled("Checkpoint", info.id, _facts(facts))


def run_html(info: RunInfo, newest: Sequence[CheckpointInfo], *, checkpoints: int) -> str:
    """Returns a run as HTML.

    Args:
        info: The run.
        newest: Its newest checkpoints.
        checkpoints: How many it has.
    """
    facts = [
        ("state", info.status),
        ("began", moment(info.created_at)),
        ("metric", f"{info.metric} ({info.mode})" if info.mode else info.metric or ""),
        ("policies", "; ".join(f"{name}: {text}" for name, text in info.policies.items())),
        ("checkpoints", f"{checkpoints:,}"),
    ]
    rows = [
        (f"{c.step:,}", c.id, _metrics(c), moment(c.created_at), _notes(c))
        for c in newest[:MOST_ROWS]
    ]
    table = _table(("step", "checkpoint", "metrics", "saved", "notes"), rows)
    return _titled("Run", info.name, _facts(facts) + table + _rest(checkpoints - len(rows)))


def store_html(
    name: str, runs: Iterable[tuple[RunInfo, int]], *, total: int, stored_nbytes: int
) -> str:
    """Returns a store as HTML.

    Args:
        name: What messages call it.
        runs: Runs to show, and how many checkpoints each has.
        total: How many runs there are.
        stored_nbytes: Bytes of the distinct shards.
    """
    rows = [
        (info.name, info.status, info.metric or "", f"{checkpoints:,}", moment(info.created_at))
        for info, checkpoints in runs
    ]
    facts = [("runs", f"{total:,}"), ("stored", nbytes_text(stored_nbytes))]
    table = _table(("run", "state", "metric", "checkpoints", "began"), rows)
    return _titled("Store", name, _facts(facts) + table + _rest(total - len(rows)))


def unreadable_html(plain: str, problem: str) -> str:
    """Returns what stands for an object that cannot be read any more."""
    return f"<div><code>{_text(plain)}</code><div>{_text(problem)}</div></div>"


def _titled(kind: str, name: str, body: str) -> str:
    return f"<div><div>{kind} <strong>{_text(name)}</strong></div>{body}</div>"


def _facts(pairs: Iterable[tuple[str, str]]) -> str:
    rows = "".join(
        f'<tr><th style="{_CELL};font-weight:normal;opacity:0.7">{_text(name)}</th>'
        f'<td style="{_CELL}">{_text(value)}</td></tr>'
        for name, value in pairs
        if value
    )
    return f'<table style="{_FRAME}"><tbody>{rows}</tbody></table>'


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    head = "".join(
        f'<th style="{_CELL};font-weight:normal;opacity:0.7">{_text(title)}</th>'
        for title in titles
    )
    body = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{_text(cell)}</td>' for cell in row) + "</tr>"
        for row in rows
    )
    return f'<table style="{_FRAME}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _text(text: str) -> str:
    return escape(printable(text))


def _rest(left_out: int) -> str:
    return f"<div>and {count(left_out, 'more', 'more')}</div>" if left_out > 0 else ""


def _metrics(info: CheckpointInfo) -> str:
    shown = list(info.metrics.items())[:MOST_ROWS]
    return ", ".join(f"{name} {number(value)}" for name, value in shown)


def _notes(info: CheckpointInfo) -> str:
    return ", ".join(
        (
            *(("damaged",) if info.damaged else ()),
            *(("pinned",) if info.pinned else ()),
            *(f"#{tag}" for tag in info.tags),
            *((info.kind,) if info.kind != "full" else ()),
            *(("thinned",) if info.thinned else ()),
        )
    )
