"""Commands that look into one thing: a checkpoint, a metric, two checkpoints."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Annotated

import typer

import holdfast
from holdfast.cli import completing, records
from holdfast.cli.arguments import Chosen
from holdfast.cli.charts import plot, sparkline
from holdfast.cli.command import Session, command
from holdfast.cli.comparing import show_difference
from holdfast.cli.formatting import (
    age,
    count,
    leaves,
    moment,
    nbytes_text,
    number,
    strict,
)
from holdfast.cli.listing import notes
from holdfast.cli.output import Column
from holdfast.errors import ConfigError, NotFoundError

_PANEL = "Look"
_PLOT_HEIGHT = 12
_SPARK_WIDTH = 60


def register(app: typer.Typer) -> None:
    """Adds the commands to the application."""
    command(
        app,
        "show",
        examples=("holdfast show digits-cnn@best", "holdfast show digits-cnn@step:400 --json"),
        panel=_PANEL,
    )(_show)
    command(
        app,
        "history",
        examples=(
            "holdfast history digits-cnn val_loss --plot",
            "holdfast history digits-cnn val_loss --csv > val_loss.csv",
        ),
        panel=_PANEL,
    )(_history)
    command(
        app,
        "diff",
        examples=("holdfast diff digits-cnn@best digits-cnn@latest --norms",),
        panel=_PANEL,
    )(_diff)


def _show(session: Session, reference: Chosen) -> None:
    """Show all that is known of a checkpoint, and how to load it."""
    out = session.out
    with session.store() as store:
        checkpoint = store.get(reference)
        if out.quiet and not out.as_json:
            out.lines([str(checkpoint.path)])
            return
        info, items = checkpoint.info, dict(_items(checkpoint))
        # The manifest can be damaged: what the catalog knows is shown before it is read.
        if out.as_json:
            config = checkpoint.config
            code = list(_loading(store, checkpoint)) if info.items else []
            out.data(
                {
                    **records.of_checkpoint(checkpoint),
                    "config": config,
                    "item_nbytes": items,
                    "finite": checkpoint.record.finite,
                    "load": code,
                }
            )
            return
        out.lines([checkpoint.id], style="bold")
        out.facts(
            (
                ("run", info.run),
                ("step", str(info.step)),
                ("epoch", "" if info.epoch is None else str(info.epoch)),
                ("saved", f"{age(info.created_at, now=time.time())}, {moment(info.created_at)}"),
                ("why", info.reason),
                ("kind", info.kind + (", thinned" if info.thinned else "")),
                ("parent", info.parent or ""),
                ("notes", notes(info)),
                ("size", _sizes(checkpoint)),
                ("folder", str(checkpoint.path)),
            )
        )
        _show_part(session, "Metrics", ((k, number(v)) for k, v in info.metrics.items()))
        unsound = [item for item, finite in checkpoint.record.finite.items() if not finite]
        _show_part(
            session,
            "Items",
            (
                (name, nbytes_text(nbytes) + (", not finite" if name in unsound else ""))
                for name, nbytes in items.items()
            ),
        )
        _show_part(session, "Configuration", leaves(checkpoint.config))
        _show_part(session, "Metadata", leaves(checkpoint.metadata))
        if info.items:
            out.heading("Load it")
            out.code(_loading(store, checkpoint))


def _show_part(session: Session, title: str, pairs: Iterator[tuple[str, str]]) -> None:
    found = list(pairs)
    if found:
        session.out.heading(title)
        session.out.facts(found)


def _items(checkpoint: holdfast.Checkpoint) -> Iterator[tuple[str, int]]:
    info = checkpoint.info
    for item in info.items:
        yield item, sum(info.shards.get(shard, 0) for shard in info.item_shards.get(item, ()))


def _sizes(checkpoint: holdfast.Checkpoint) -> str:
    own, held = checkpoint.stored_nbytes, checkpoint.nbytes
    return f"{nbytes_text(held)}; it was the first to write {nbytes_text(own)}"


def _loading(store: holdfast.Store, checkpoint: holdfast.Checkpoint) -> Iterator[str]:
    item = "model" if "model" in checkpoint.items else checkpoint.items[0]
    yield "import holdfast"
    yield f'checkpoint = holdfast.open({str(store.path)!r}, mode="r").get({checkpoint.id!r})'
    if item.isidentifier():
        yield f"checkpoint.restore({item}={item})"
    else:
        yield f"state = checkpoint.load({item!r})"


def _history(
    session: Session,
    run: Annotated[str, typer.Argument(help="A run.", autocompletion=completing.runs)],
    metric: Annotated[str, typer.Argument(help="A metric.", autocompletion=completing.metrics)],
    *,
    as_plot: Annotated[bool, typer.Option("--plot", help="Draw it.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print it as CSV.")] = False,
) -> None:
    """Show how a metric went, step by step."""
    out = session.out
    if as_plot + as_csv + out.as_json > 1:
        raise ConfigError("--plot, --csv and --json exclude each other", hint="ask for one of them")
    with session.store() as store:
        reader = store[run]
        points = reader.history(metric)
        if not points:
            known = reader.metric_names()
            raise NotFoundError(
                f"the run {run} has reported no {metric!r}",
                hint=f"metrics that it reported: {', '.join(known) or 'none'}",
                nearest=tuple(known),
            )
    if out.as_json:
        pairs = [{"step": step, "value": value} for step, value in points]
        out.data({"run": run, "metric": metric, "points": pairs})
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(("step", metric))
        writer.writerows((step, strict(value)) for step, value in points)
    elif as_plot:
        out.lines([f"{metric} of {run}"], style="bold")
        out.lines(plot(points, width=out.width, height=_PLOT_HEIGHT))
    else:
        _table_of(session, metric, points)


def _table_of(session: Session, metric: str, points: Sequence[tuple[int, float]]) -> None:
    out = session.out
    rows = [(str(step), number(value)) for step, value in points]
    out.table((Column("STEP", right=True), Column(metric, right=True)), rows)
    if out.to_terminal:
        out.lines([sparkline([v for _, v in points], width=min(out.width, _SPARK_WIDTH))])
        out.note(count(len(points), "value"))


def _diff(
    session: Session,
    first: Annotated[
        str,
        typer.Argument(metavar="A", help="A reference.", autocompletion=completing.references),
    ],
    second: Annotated[
        str,
        typer.Argument(metavar="B", help="Another.", autocompletion=completing.references),
    ],
    *,
    norms: Annotated[
        bool, typer.Option("--norms", help="Read the tensors and measure how far they moved.")
    ] = False,
) -> None:
    """Show how two checkpoints differ: metrics, configuration, tensors."""
    out = session.out
    with session.store() as store, ExitStack() as stack:
        if norms:
            stack.enter_context(out.progress("Reading both", total=None))
        difference = store.diff(first, second, norms=norms)
    if out.as_json:
        out.data(difference.as_dict())
    else:
        show_difference(out, difference)
