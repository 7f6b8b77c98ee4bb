"""The command that proves, on the user's own disk, that what is promised is kept."""

from __future__ import annotations

from typing import Annotated, Any

import typer

import holdfast
from holdfast.cli.command import Session, command
from holdfast.cli.formatting import count, seconds_text
from holdfast.cli.output import Column, Output
from holdfast.errors import HoldfastError


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    command(
        app,
        "certify",
        examples=("holdfast certify /mnt/data --quick", "holdfast certify . --json > proof.json"),
        panel="Look after",
    )(_certify)


def _certify(
    session: Session,
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="A folder on the disk that is to be proven.")
    ] = ".",
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="A sample of the states: a minute or two.")
    ] = False,
) -> None:
    """Kill, fail and cut off saves on this disk at every step; exits with 1 if a promise breaks."""
    out = session.out
    certificate = holdfast.certify(path, quick=quick, watch=out.counted)
    if out.as_json:
        out.data(certificate.as_dict())
    elif not out.quiet:
        _show(out, certificate)
    if not certificate.ok:
        raise HoldfastError(
            certificate.verdict if certificate.states else "nothing could be explored",
            hint="do not trust checkpoints to this disk before it is understood; please report "
            "it with what --json prints",
        )


def _show(out: Output, certificate: Any) -> None:
    out.heading("Certificate")
    out.facts(certificate.facts().items())
    out.lines([""])
    out.table(
        (
            Column("SWEEP", style="bold", wraps=True),
            Column("STATES", right=True),
            Column("VIOLATIONS", right=True),
            Column("TIME", right=True),
        ),
        [
            (
                part.title,
                part.outcome.skipped or str(part.outcome.states),
                "" if part.outcome.skipped else str(part.outcome.violated),
                seconds_text(part.seconds),
            )
            for part in certificate.parts
        ],
    )
    for part in certificate.parts:
        if part.outcome.violations:
            out.heading(f"{part.title}: {count(part.outcome.violated, 'violation')}")
            out.lines(f"- {sentence}" for sentence in part.outcome.violations)
    out.lines([""])
    out.lines([certificate.verdict], style="bold green" if certificate.ok else "bold red")
