"""The command that shows a store in a browser."""

from __future__ import annotations

import os
import sys
import threading
import webbrowser
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli.command import Session, command
from holdfast.cli.finding import CATALOG_VARIABLE
from holdfast.errors import ConfigError

if TYPE_CHECKING:
    from holdfast.dashboard.server import Listening

_PANEL = "Look"
_VARIABLE = "HOLDFAST_DASHBOARD_TOKEN"


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    command(
        app,
        "dashboard",
        examples=(
            "holdfast dashboard",
            "holdfast dashboard models/checkpoints --port 0 --budget 2GB",
            "holdfast dashboard --host 0.0.0.0 --token",
        ),
        panel=_PANEL,
    )(_dashboard)


MakeToken = Annotated[
    bool,
    typer.Option("--token", help="Make a token and print it: who has it may act, too."),
]
OwnToken = Annotated[
    str | None,
    typer.Option(
        "--token-value",
        metavar="TOKEN",
        help=f"Take this token. Others on this machine can see it in the list of processes; "
        f"${_VARIABLE} they cannot.",
    ),
]
OtherNames = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Another name of this server, a proxy's for example."),
]


def _dashboard(
    session: Session,
    where: Annotated[
        str | None,
        typer.Argument(metavar="STORE", help="The store; it need not be there yet."),
    ] = None,
    *,
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 8765,
    make_token: MakeToken = False,
    token: OwnToken = None,
    allow_host: OtherNames = None,
    budget: Annotated[
        str | None, typer.Option(metavar="SIZE", help="What may be stored: 2GB.")
    ] = None,
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open a browser.")] = False,
) -> None:
    """Serve the store: pages that follow it, and a REST API; until Ctrl-C."""
    made = None
    if make_token and token is not None:
        raise ConfigError(
            "--token makes a token, and --token-value gives one", hint="use one of them"
        )
    token = token or os.environ.get(_VARIABLE)
    try:
        from holdfast.dashboard.server import serve
        from holdfast.dashboard.sessions import Token
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the dashboard needs {error.name}, which is not installed",
            hint="pip install 'holdfast[dashboard]'",
        ) from error
    if make_token:
        token = made = Token.make()

    def ready(listening: Listening) -> None:
        _announce(session, listening, made)
        if open_:
            # Not here, where the server runs: a browser of the terminal's comes back when it ends.
            threading.Thread(target=webbrowser.open, args=(listening.url,), daemon=True).start()

    serve(
        where or session.where(),
        host=host,
        port=port,
        token=token,
        allow=allow_host or (),
        catalog=os.environ.get(CATALOG_VARIABLE),
        budget=budget,
        ready=ready,
    )


def _announce(session: Session, listening: Listening, made: str | None) -> None:
    out = session.out
    if out.as_json:
        said = {
            "url": listening.url,
            "host": listening.host,
            "port": listening.port,
            "store": listening.store,
            "read_only": listening.read_only,
        }
        out.data({**said, "token": made} if made else said)
    elif out.quiet:
        out.code([listening.url, *([made] if made else [])])
    else:
        out.code([f"{listening.store} is shown at {listening.url}"])
        if made:
            out.code([f"Token (it is not shown again): {made}"])
        out.note("Ctrl-C ends it." + (" Read-only: no token." if listening.read_only else ""))
    # Whoever started this reads it from a pipe, and waits for it.
    sys.stdout.flush()
