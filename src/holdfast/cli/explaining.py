"""The command that says why: what was decided about a step or a checkpoint, and by which rule."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from holdfast.cli import records
from holdfast.cli.arguments import Chosen
from holdfast.cli.command import Session, command
from holdfast.cli.formatting import metrics_text, moment
from holdfast.cli.output import Column, Output
from holdfast.model import Decision, StepRow

_PANEL = "Look"
_FATES = {
    "saved": "saved",
    "skipped": "not saved",
    "failed": "save failed",
    "kept": "kept",
    "thinned": "thinned",
    "deleted": "deleted",
}


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    command(
        app,
        "explain",
        examples=(
            "holdfast explain digits-cnn@step:412",
            "holdfast explain digits-cnn_20251031_142530",
        ),
        panel=_PANEL,
    )(_explain)


def _explain(session: Session, reference: Chosen) -> None:
    """Say why a step was saved or skipped, and why its checkpoint was kept, thinned or deleted."""
    out = session.out
    with session.store() as store:
        told = store.explain(reference)
        checkpoint = told.checkpoint
        # What the policy says now stands in no record: it depends on all the others.
        now: tuple[str, ...] = ()
        fate = None
        if checkpoint is not None:
            plan = store.prune(told.run)
            if checkpoint.id in plan.reasons:
                fate, now = plan.fate(checkpoint.id), plan.reasons[checkpoint.id]
        if out.as_json:
            out.data(
                {
                    "run": told.run,
                    "step": told.step,
                    "checkpoint": records.of_checkpoint(checkpoint) if checkpoint else None,
                    "reports": [
                        {
                            "at": row.at,
                            "metrics": row.metrics,
                            "saved": row.saved,
                            "reason": row.reason,
                        }
                        for row in told.rows
                    ],
                    "decisions": [records.of_decision(decision) for decision in told.decisions],
                    "now": {"fate": fate, "reasons": now} if fate else None,
                }
            )
            return
        _show_story(session, told.rows, told.decisions, title=f"{told.run}, step {told.step}")
        if fate is not None:
            verbs = {"kept": "keep", "thinned": "thin", "deleted": "delete"}
            out.lines([f"A clean-up now would {verbs[fate]} it: {'; '.join(now)}."])
        elif any(decision.fate == "deleted" for decision in told.decisions):
            out.lines(["It does not exist any more."])
        elif checkpoint is None:
            out.lines(["There is no checkpoint of it."])


def _show_story(
    session: Session, rows: Sequence[StepRow], decisions: Sequence[Decision], *, title: str
) -> None:
    ids = list(dict.fromkeys(d.checkpoint_id for d in decisions if d.checkpoint_id))
    reported = {name: value for row in rows for name, value in row.metrics.items()}
    out = session.out
    out.lines([title if len(ids) != 1 else f"{title}: {ids[0]}"], style="bold")
    if reported:
        out.lines([f"It reported {metrics_text(reported)}."])
    unsaved = [(row.at, "not saved", row.reason) for row in rows if not row.saved and row.reason]
    _show_events(out, unsaved)
    for checkpoint_id in (*ids, None):
        if checkpoint_id is not None and len(ids) > 1:
            out.heading(checkpoint_id)
        of_this = [decision for decision in decisions if decision.checkpoint_id == checkpoint_id]
        _show_events(out, [(d.at, _FATES[d.fate], d.reason) for d in of_this])
    out.lines([""])


def _show_events(out: Output, events: Sequence[tuple[float, str, str]]) -> None:
    if not events:
        return
    out.lines([""])
    out.table(
        (Column("WHEN", style="dim"), Column("WHAT", style="bold"), Column("WHY", wraps=True)),
        [(moment(at), what, why) for at, what, why in sorted(events, key=lambda e: e[0])],
    )
