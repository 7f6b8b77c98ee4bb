"""Commands that say something about a checkpoint: tags and pins."""

from __future__ import annotations

from typing import Annotated

import typer

import holdfast
from holdfast.cli import records
from holdfast.cli.arguments import Chosen
from holdfast.cli.command import Session, command

_PANEL = "Mark"

Tags = Annotated[list[str], typer.Argument(metavar="TAG...", help="One tag or several.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to the application."""
    command(
        app,
        "tag",
        examples=("holdfast tag digits-cnn@best prod", "holdfast show digits-cnn@tag:prod"),
        panel=_PANEL,
    )(_tag)
    command(app, "untag", examples=("holdfast untag digits-cnn@tag:prod prod",), panel=_PANEL)(
        _untag
    )
    command(app, "pin", examples=("holdfast pin digits-cnn@best",), panel=_PANEL)(_pin)
    command(app, "unpin", examples=("holdfast unpin digits-cnn@step:400",), panel=_PANEL)(_unpin)


def _tag(session: Session, reference: Chosen, *, tags: Tags) -> None:
    """Give a checkpoint tags."""
    with session.store(writing=True) as store:
        checkpoint = store.get(reference)
        checkpoint.tag(*tags)
        _say(session, checkpoint, f"has the tags: {', '.join(checkpoint.tags)}")


def _untag(session: Session, reference: Chosen, *, tags: Tags) -> None:
    """Take tags from a checkpoint."""
    with session.store(writing=True) as store:
        checkpoint = store.get(reference)
        checkpoint.untag(*tags)
        _say(session, checkpoint, f"has the tags: {', '.join(checkpoint.tags) or 'none'}")


def _pin(session: Session, reference: Chosen) -> None:
    """Protect a checkpoint from every policy."""
    with session.store(writing=True) as store:
        checkpoint = store.get(reference)
        checkpoint.pin()
        _say(session, checkpoint, "is pinned: no policy deletes it")


def _unpin(session: Session, reference: Chosen) -> None:
    """Leave a checkpoint to the policies again."""
    with session.store(writing=True) as store:
        checkpoint = store.get(reference)
        checkpoint.unpin()
        _say(session, checkpoint, "is not pinned: the policies decide")


def _say(session: Session, checkpoint: holdfast.Checkpoint, what: str) -> None:
    if session.out.as_json:
        session.out.data(records.of_checkpoint(checkpoint))
    else:
        session.out.done(f"{checkpoint.id} {what}")
