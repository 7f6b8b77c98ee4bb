"""The application: its commands in groups, and the options before a command."""

from __future__ import annotations

from typing import Annotated

import typer

import holdfast
from holdfast.cli import (
    certifying,
    checking,
    explaining,
    inspecting,
    listing,
    marking,
    mirroring,
    pruning,
    showing,
    transfer,
)
from holdfast.cli.command import (
    JsonOption,
    QuietOption,
    Settings,
    StoreOption,
    VerboseOption,
)

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_THEMES = (
    listing, inspecting, explaining, showing,
    pruning, checking, certifying, mirroring, marking, transfer,
)  # fmt: skip

for theme in _THEMES:
    theme.register(app)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"holdfast {holdfast.__version__}")
        raise typer.Exit


@app.callback()
def _before(
    ctx: typer.Context,
    *,
    store: StoreOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Checkpoints of training runs: find them, judge them, look after them.

    A reference chooses a checkpoint: an id, or RUN@latest, RUN@best:loss, RUN@step:400,
    RUN@tag:prod.
    """
    ctx.obj = Settings(store, as_json, quiet, verbose)
