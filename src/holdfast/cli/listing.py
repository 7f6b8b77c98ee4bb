"""Commands that list: runs, checkpoints, the best, the latest."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Literal

import typer

import holdfast
from holdfast.cli import completing, records
from holdfast.cli.arguments import RunName
from holdfast.cli.command import Session, command
from holdfast.cli.formatting import age, count, nbytes_text, number
from holdfast.cli.output import Column
from holdfast.errors import ConfigError, NotFoundError
from holdfast.model import reason_code

_PANEL = "Look"
#: Rows that a terminal shows unless it is told otherwise; a pipe and JSON get all of them.
_SCREENFUL = 50

Direction = Annotated[
    Literal["min", "max"] | None,
    typer.Option("--mode", help="Direction, where the metric's name does not tell it."),
]


def register(app: typer.Typer) -> None:
    """Adds the commands to the application."""
    command(app, "runs", examples=("holdfast runs", "holdfast runs --json"), panel=_PANEL)(_runs)
    command(
        app,
        "ls",
        examples=(
            "holdfast ls digits-cnn",
            'holdfast ls --where "val_loss < 0.3 and tag = prod" --order-by val_loss',
            "holdfast ls digits-cnn --limit 5 --json",
        ),
        panel=_PANEL,
    )(_ls)
    command(
        app,
        "best",
        examples=(
            "holdfast best digits-cnn",
            "holdfast best digits-cnn accuracy",
            "holdfast best val_loss",
        ),
        panel=_PANEL,
    )(_best)
    command(
        app,
        "latest",
        examples=("holdfast latest", "holdfast latest digits-cnn --quiet"),
        panel=_PANEL,
    )(_latest)


def _runs(session: Session) -> None:
    """List the runs of the store."""
    with session.store() as store:
        usage = store.usage()
        now = time.time()
        rows, found = [], []
        for run in store.runs():
            info, took = run.info, usage.of(run.name)
            last = next(iter(run.checkpoints(limit=1)), None)
            best = _best_value(run.name, store, info.metric)
            found.append(
                {
                    **records.of_run(info),
                    "checkpoints": took.checkpoints,
                    "nbytes": took.nbytes,
                    "stored_nbytes": took.stored_nbytes,
                    "last_step": last.step if last else None,
                    "last_saved_at": last.created_at if last else None,
                    "best": best,
                }
            )
            rows.append(
                (
                    info.name,
                    info.status,
                    str(took.checkpoints),
                    str(last.step) if last else "-",
                    f"{info.metric} {number(best)}" if info.metric and best is not None else "",
                    nbytes_text(took.stored_nbytes),
                    age(last.created_at, now=now) if last else "-",
                )
            )
        if session.out.as_json:
            session.out.data(found)
        elif session.out.quiet:
            session.out.lines(row[0] for row in rows)
        elif not rows:
            session.out.lines([f"{store.path} has no runs yet."])
        else:
            session.out.table(
                (
                    Column("RUN", style="bold"),
                    Column("STATUS"),
                    Column("CHECKPOINTS", right=True),
                    Column("STEP", right=True),
                    Column("BEST", rank=1),
                    Column("STORED", right=True),
                    Column("LAST SAVED", rank=2),
                ),
                rows,
            )


def _best_value(run: str, store: holdfast.Store, metric: str | None) -> float | None:
    if metric is None:
        return None
    try:
        return store[run].best().metrics[metric]
    except (NotFoundError, ConfigError):
        # No checkpoint has the metric, or nobody said which direction is better: a table of all
        # runs has more to say than this.
        return None


def _ls(
    session: Session,
    run: RunName = None,
    *,
    where: Annotated[
        str | None,
        typer.Option(help='A filter: "loss < 0.3 and step >= 100 and tag = prod".'),
    ] = None,
    order_by: Annotated[
        str, typer.Option(help="A field or a metric; with - before it, descending.")
    ] = "-created_at",
    limit: Annotated[
        int | None, typer.Option(min=1, help=f"At most so many (a terminal: {_SCREENFUL}).")
    ] = None,
) -> None:
    """List checkpoints, newest first."""
    out = session.out
    with session.store() as store:
        screen = limit is None and out.to_terminal and not out.as_json and not out.quiet
        # One more than is shown tells whether there are more.
        wanted = _SCREENFUL + 1 if screen else limit
        found = store.checkpoints(run, where=where, order_by=order_by, limit=wanted)
        metric = store[run].metric if run is not None else None
        if screen and len(found) > _SCREENFUL:
            found = found[:_SCREENFUL]
            out.note(f"The first {_SCREENFUL}; --limit N shows more.")
        show_checkpoints(session, found, metric=metric)


def _best(
    session: Session,
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            help="A run; left out, all runs. A metric's name may stand alone.",
            autocompletion=completing.runs,
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Argument(
            metavar="METRIC",
            help="The metric; left out, the run's own.",
            autocompletion=completing.metrics,
        ),
    ] = None,
    *,
    by: Annotated[
        str | None,
        typer.Option("--metric", "-m", help="The same.", autocompletion=completing.metrics),
    ] = None,
    mode: Direction = None,
) -> None:
    """Show the checkpoint that is best by a metric."""
    if metric is not None and by is not None and metric != by:
        raise ConfigError(f"two metrics were named, {metric!r} and {by!r}", hint="name one of them")
    metric = by or metric
    with session.store() as store:
        if run is not None and metric is None and _is_metric(store, run):
            run, metric = None, run
        if run is not None:
            chosen = store[run].best(metric, mode=mode)
            metric = metric or store[run].metric
        elif metric is not None:
            chosen = store.best(metric, mode=mode)
        else:
            raise ConfigError(
                "neither a run nor a metric was named, so 'best' says nothing",
                hint="holdfast best RUN, or holdfast best --metric val_loss",
            )
        show_checkpoints(session, [chosen], metric=metric, single=True)


def _is_metric(store: holdfast.Store, name: str) -> bool:
    """Returns whether a name that stands alone is that of a metric and not of a run."""
    return name not in store and any(name in run.metric_names() for run in store.runs())


def _latest(session: Session, run: RunName = None) -> None:
    """Show the newest checkpoint that can be restored."""
    with session.store() as store:
        chosen = store.latest(run)
        show_checkpoints(session, [chosen], metric=store[chosen.run].metric, single=True)


def show_checkpoints(
    session: Session,
    checkpoints: Sequence[holdfast.Checkpoint],
    *,
    metric: str | None,
    single: bool = False,
) -> None:
    """Writes checkpoints as a table, as ids, or as JSON.

    Args:
        session: Where to.
        checkpoints: In the order in which they are shown.
        metric: The metric that comes first.
        single: Whether JSON is one object instead of a list.
    """
    out = session.out
    if out.as_json:
        found = [records.of_checkpoint(checkpoint) for checkpoint in checkpoints]
        out.data(found[0] if single else found)
        return
    if out.quiet:
        out.lines(checkpoint.id for checkpoint in checkpoints)
        return
    if not checkpoints:
        out.lines(["No checkpoints."])
        return
    named = dict.fromkeys(name for checkpoint in checkpoints for name in checkpoint.metrics)
    names = sorted(named, key=lambda name: name != metric)
    now = time.time()
    columns = (
        Column("ID", style="bold"),
        Column("STEP", right=True),
        # The first metric stays longest, then its neighbours.
        *(Column(name, right=True, rank=2 + 3 * i) for i, name in enumerate(names)),
        Column("SIZE", right=True, rank=4),
        Column("SAVED", rank=3),
        Column("WHY", rank=6),
        Column("NOTES", wraps=True, rank=1),
    )
    out.table(
        columns,
        [
            (
                checkpoint.id,
                str(checkpoint.step),
                *(
                    number(checkpoint.metrics[name]) if name in checkpoint.metrics else ""
                    for name in names
                ),
                nbytes_text(checkpoint.nbytes),
                age(checkpoint.created_at, now=now),
                reason_code(checkpoint.reason),
                notes(checkpoint.info),
            )
            for checkpoint in checkpoints
        ],
    )
    if not single and out.to_terminal:
        out.note(count(len(checkpoints), "checkpoint"))


def notes(info: holdfast.CheckpointInfo) -> str:
    """Returns what is special about a checkpoint: ``damaged, pinned, #prod``."""
    return ", ".join(
        (
            *(("damaged",) if info.damaged else ()),
            *(("pinned",) if info.pinned else ()),
            *(f"#{tag}" for tag in info.tags),
            *((info.kind,) if info.kind != "full" else ()),
            *(("thinned",) if info.thinned else ()),
            *(f"awaits {metric}" for metric in info.awaiting if metric not in info.metrics),
        )
    )
