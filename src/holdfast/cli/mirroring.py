"""Commands about mirrors: bringing them up to date, and bringing a lost store back from one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer

from holdfast.cli.arguments import RunName
from holdfast.cli.command import Session, command
from holdfast.cli.finding import is_store, open_store
from holdfast.cli.formatting import count, nbytes_text
from holdfast.cli.output import Output
from holdfast.errors import IntegrityError, NotFoundError, SaveError

_PANEL = "Look after"


def register(app: typer.Typer) -> None:
    """Adds the commands to the application."""
    command(
        app,
        "mirror",
        examples=("holdfast mirror --to /mnt/nas/checkpoints", "holdfast mirror digits-cnn"),
        panel=_PANEL,
    )(_mirror)


def _mirror(
    session: Session,
    run: RunName = None,
    *,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="PATH", help="Only this mirror, made where it is not there."),
    ] = None,
) -> None:
    """Bring the store's mirrors up to date; exits with 5 or 8 when something was not copied."""
    out = session.out
    with session.store(writing=True) as store:
        total = sum(checkpoint.nbytes for checkpoint in store.checkpoints(run))
        with out.progress("Mirroring", total=total) as progress:
            found = store.mirror(run, to=to, progress=progress)
    if out.as_json:
        out.data({"ok": all(one.ok for one in found), "mirrors": [one.as_dict() for one in found]})
    else:
        _show(out, found)
    _raise_for(found)


def bring_back(session: Session, mirrors: Sequence[str]) -> None:
    """Makes a store that is gone from its mirrors; does nothing where there is a store.

    Raises:
        NotFoundError: No mirror holds a store.
        IntegrityError, SaveError: Not all of it could be copied; what could be is there.
    """
    url = session.where()
    if is_store(url):
        return
    # What a mirror is to a store, the store is now to its mirror.
    for mirror in mirrors:
        if not is_store(mirror):
            continue
        with open_store(mirror) as source:
            total = sum(checkpoint.nbytes for checkpoint in source.checkpoints())
            with session.out.progress("Bringing back", total=total) as progress:
                found = source.mirror(to=url, progress=progress)
        copied = count(sum(len(one.copied) for one in found), "checkpoint")
        session.out.note(f"Brought {copied} back from {mirror}.")
        _raise_for(found)
        return
    raise NotFoundError(
        f"there is no store at {url}, nor at {', '.join(mirrors)}",
        hint="check the paths, and that the mirror's medium is mounted",
    )


def _show(out: Output, found: Iterable[Any]) -> None:
    for one in found:
        if out.quiet:
            out.lines(one.copied)
            continue
        did = f"{count(len(one.copied), 'checkpoint')} copied ({nbytes_text(one.nbytes)})"
        out.done(f"{one.mirror}: {did}, {len(one.thinned)} thinned, {len(one.deleted)} deleted.")
        if one.only:
            names = count(len(one.only), "checkpoint")
            out.note(f"{names} are on the mirror alone: `holdfast doctor` brings them back.")
        for problem in one.problems:
            out.note(problem)


def _raise_for(found: Sequence[Any]) -> None:
    problems = [problem for one in found for problem in one.problems]
    if not problems:
        return
    kind = IntegrityError if any(one.damaged for one in found) else SaveError
    more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
    raise kind(
        f"not all was copied: {problems[0]}{more}",
        hint="what could be copied is; `holdfast doctor` shows what can be mended",
    )
