"""Commands that clean up: the plan, carrying it out, deleting on request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

import holdfast
from holdfast.cli import completing, records
from holdfast.cli.arguments import RunName
from holdfast.cli.command import Session, command
from holdfast.cli.formatting import count, nbytes_text
from holdfast.cli.output import Column, Output

_PANEL = "Look after"

KeepOption = Annotated[
    str | None,
    typer.Option(
        "--keep",
        metavar="POLICY",
        help="What to keep: \"best(5, 'loss') | latest(2)\"; left out, what each run was opened "
        "with.",
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to the application."""
    policy = "\"best(5, 'val_loss').items('model') | latest(2)\""
    command(
        app,
        "plan",
        examples=("holdfast plan digits-cnn", f"holdfast plan --keep {policy}"),
        panel=_PANEL,
    )(_plan)
    command(
        app,
        "prune",
        examples=("holdfast prune digits-cnn", f"holdfast prune digits-cnn --keep {policy} --yes"),
        panel=_PANEL,
    )(_prune)
    command(
        app,
        "delete",
        examples=(
            "holdfast delete 'study/*'",
            "holdfast delete digits-cnn@step:400 --yes",
        ),
        panel=_PANEL,
    )(_delete)


def _plan(session: Session, run: RunName = None, *, keep: KeepOption = None) -> None:
    """Show what a clean-up would keep, thin and delete, and why; nothing is changed."""
    with session.store() as store:
        plan = store.prune(run, policy=keep)
        if session.out.as_json:
            session.out.data(records.of_plan(plan, applied=False))
        elif session.out.quiet:
            session.out.lines(info.id for info in plan.deleted)
        else:
            _show(session.out, plan)
            session.out.lines([f"\n{_sum(plan)}."])


def _prune(
    session: Session,
    run: RunName = None,
    *,
    keep: KeepOption = None,
    yes: YesOption = False,
) -> None:
    """Delete and thin what the policies do not keep, after showing the plan."""
    with session.store(writing=True) as store:
        _carry_out(session, store.prune(run, policy=keep), yes=yes)


def _delete(
    session: Session,
    pattern: Annotated[
        str,
        typer.Argument(
            help="A run, a pattern of runs ('study/*'), or a reference.",
            autocompletion=completing.runs_and_references,
        ),
    ],
    *,
    yes: YesOption = False,
) -> None:
    """Delete runs, or one checkpoint; pinned checkpoints stay."""
    with session.store(writing=True) as store:
        _carry_out(session, store.delete(pattern), yes=yes)


def _carry_out(session: Session, plan: holdfast.Plan, *, yes: bool) -> None:
    out = session.out
    if not out.as_json and not out.quiet:
        _show(out, plan)
        out.lines([f"\n{_sum(plan)}."])
    changes = bool(plan.deleted or plan.thinned)
    if changes and not yes and not out.confirm("Go ahead?"):
        out.note("Nothing was changed.")
        return
    # Also without anything to delete: it finishes what an earlier clean-up left undone.
    done = plan.apply()
    if out.as_json:
        out.data(records.of_plan(done, applied=True))
    elif changes:
        deleted, thinned = count(len(done.deleted), "checkpoint"), len(done.thinned)
        also = f", thinned {thinned}" if thinned else ""
        out.done(f"Deleted {deleted}{also}: freed {nbytes_text(done.freed_nbytes)}.")


def _show(out: Output, plan: holdfast.Plan) -> None:
    columns = (
        Column("ID", style="bold"),
        Column("STEP", right=True),
        Column("FATE"),
        Column("WHY", wraps=True),
    )
    rows = list(_rows(plan))
    if rows:
        out.table(columns, rows)


def _rows(plan: holdfast.Plan) -> Iterator[tuple[str, str, str, str]]:
    verbs = {"kept": "keep", "deleted": "delete"}
    for info in sorted((*plan.kept, *plan.deleted), key=lambda i: (i.run, i.created_at)):
        left = ", ".join(plan.remaining.get(info.id, ()))
        fate = verbs.get(plan.fate(info.id), f"thin to {left}")
        yield info.id, str(info.step), fate, "; ".join(plan.reasons[info.id])


def _sum(plan: holdfast.Plan) -> str:
    kept, thinned = len(plan.kept) - len(plan.thinned), len(plan.thinned)
    return (
        f"{kept} kept, {thinned} thinned, {len(plan.deleted)} deleted: "
        f"frees {nbytes_text(plan.freed_nbytes)}"
    )
