"""Arguments that several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

from holdfast.cli import completing

RunName = Annotated[
    str | None,
    typer.Argument(metavar="RUN", help="A run; left out, all.", autocompletion=completing.runs),
]
Chosen = Annotated[
    str,
    typer.Argument(
        metavar="REF", help="A reference or an id.", autocompletion=completing.references
    ),
]
