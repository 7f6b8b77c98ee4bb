"""Commands that carry checkpoints out of a store and into one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from holdfast.cli import completing, records
from holdfast.cli.arguments import Chosen
from holdfast.cli.command import Session, command
from holdfast.cli.formatting import nbytes_text

_PANEL = "Transfer"


def register(app: typer.Typer) -> None:
    """Adds the commands to the application."""
    command(
        app,
        "export",
        examples=(
            "holdfast export digits-cnn@best model/",
            "holdfast export digits-cnn@best model.pt --format torch",
        ),
        panel=_PANEL,
    )(_export)
    command(
        app,
        "import",
        examples=(
            "holdfast import model.safetensors --run pretrained",
            "holdfast import ./hf-model --run pretrained --step 1000",
        ),
        panel=_PANEL,
    )(_import)


def _export(
    session: Session,
    reference: Chosen,
    path: Annotated[Path, typer.Argument(help="What to write; it must not exist yet.")],
    *,
    form: Annotated[
        Literal["safetensors", "huggingface", "torch"],
        typer.Option("--format", "-f", help="A folder of plain files, or one .pt file."),
    ] = "safetensors",
) -> None:
    """Write a checkpoint in a form that needs no Holdfast; every tensor is checked."""
    out = session.out
    with session.store() as store:
        checkpoint = store.get(reference)
        with out.progress("Exporting", total=None):
            written = checkpoint.export(path, form)
    if out.as_json:
        out.data({"id": checkpoint.id, "path": str(written), "format": form})
    elif out.quiet:
        out.lines([str(written)])
    else:
        out.done(f"Wrote {checkpoint.id} ({nbytes_text(checkpoint.nbytes)}) to {written}")


def _import(
    session: Session,
    path: Annotated[
        Path,
        typer.Argument(
            help="A safetensors or torch file, or a folder of Hugging Face's.", exists=True
        ),
    ],
    *,
    run: Annotated[
        str, typer.Option("--run", "-r", help="The run.", autocompletion=completing.runs)
    ],
    step: Annotated[int | None, typer.Option(min=0, help="Its step.")] = None,
) -> None:
    """Make a checkpoint out of a file or folder of another tool; nothing in it is run."""
    out = session.out
    with session.store(writing=True, create=True) as store:
        checkpoint = store.import_checkpoint(path, run=run, step=step)
        if out.as_json:
            out.data(records.of_checkpoint(checkpoint))
        elif out.quiet:
            out.lines([checkpoint.id])
        else:
            out.done(f"Imported {path} as {checkpoint.id}, step {checkpoint.step}")
