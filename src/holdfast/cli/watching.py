"""The command that stays: a store, or one run, as it changes."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli import completing
from holdfast.cli.command import Session, command
from holdfast.cli.formatting import iso

if TYPE_CHECKING:
    from holdfast.cli.views import View

_PANEL = "Look"


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    command(
        app,
        "watch",
        examples=(
            "holdfast watch",
            "holdfast watch digits-cnn --every 5",
            "holdfast watch --once",
            "holdfast watch digits-cnn --json | jq .last_step",
        ),
        panel=_PANEL,
    )(_watch)


def _watch(
    session: Session,
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            help="A run, in detail; left out, all at a glance.",
            autocompletion=completing.runs,
        ),
    ] = None,
    *,
    every: Annotated[
        float, typer.Option(min=0.05, help="Seconds between looks; only what changed is read.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Show it once.")] = False,
) -> None:
    """Show the runs as they change, until Ctrl-C; a pipe gets a line of JSON per change."""
    try:
        from holdfast.cli.views import RunView, StoreView

        view: View = StoreView(session.where()) if run is None else RunView(session.where(), run)
        with closing(view.watch):
            view.watch.first()
            if once:
                _show_once(session, view)
            elif session.out.as_json or not session.out.to_terminal:
                _stream(session, view, every=every)
            else:
                _follow(session, view, every=every)
    except KeyboardInterrupt:
        # The way out of it, and nothing was left half done.
        return


def _show_once(session: Session, view: View) -> None:
    if session.out.as_json:
        _tell(session, view)
    else:
        session.out.frame(view.frame(now=time.time(), height=None))


def _stream(session: Session, view: View, *, every: float) -> None:
    """Writes a line per change, and one when the store cannot be read."""
    pause = threading.Event()
    _tell(session, view)
    while True:
        pause.wait(every)
        if view.watch.look():
            _tell(session, view)


def _tell(session: Session, view: View) -> None:
    now = time.time()
    line = {"at": now, "time": iso(now)}
    problem = view.watch.problem
    session.out.event({**line, "problem": problem} if problem else {**line, **view.data()})


def _follow(session: Session, view: View, *, every: float) -> None:
    """Shows frame after frame; one that would look like the last is not drawn."""
    pause = threading.Event()
    with session.out.screen() as show:
        shown = None
        while True:
            size = session.out.size
            frame = view.frame(now=time.time(), height=size[1])
            if (frame, size) != shown:
                show(frame)
                shown = (frame, size)
            pause.wait(every)
            view.watch.look()
