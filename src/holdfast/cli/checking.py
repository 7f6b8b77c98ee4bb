"""Commands that look after a store: verify, usage, doctor, reindex."""

from __future__ import annotations

from typing import Annotated, Any

import typer

import holdfast
from holdfast.cli import completing
from holdfast.cli.command import Session, command
from holdfast.cli.formatting import count, nbytes_text
from holdfast.cli.mirroring import bring_back
from holdfast.cli.output import Column, Output
from holdfast.errors import HoldfastError, IntegrityError

_PANEL = "Look after"
_BAR_WIDTH = 30
_NAMED = 5


def register(app: typer.Typer) -> None:
    """Adds the commands to the application."""
    command(
        app,
        "verify",
        examples=(
            "holdfast verify",
            "holdfast verify digits-cnn@best",
            "holdfast verify --since 7d --rate 50MB/s",
        ),
        panel=_PANEL,
    )(_verify)
    command(app, "usage", examples=("holdfast usage", "holdfast usage --budget 2GB"), panel=_PANEL)(
        _usage
    )
    command(
        app,
        "doctor",
        examples=("holdfast doctor", "holdfast doctor --apply --mirror PATH"),
        panel=_PANEL,
    )(_doctor)
    command(app, "reindex", examples=("holdfast reindex",), panel=_PANEL)(_reindex)


def _verify(
    session: Session,
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="TARGET",
            help="A run or a reference; left out, the whole store.",
            autocompletion=completing.runs_and_references,
        ),
    ] = None,
    *,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="AGE",
            help='Leave out what was verified since: "7d", "12h", "30m", or a date.',
        ),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(metavar="RATE", help='Read no faster than this: "50MB/s".'),
    ] = None,
) -> None:
    """Read checkpoints in full and compare every digest; exits with 5 when one is damaged.

    Each file is read once. What was verified is noted as it goes on: interrupted, the same command
    with --since goes on.
    """
    out = session.out
    with session.store(writing=True) as store:
        total = store.verify_nbytes(target, since=since) if out.shows_progress else None
        try:
            with out.progress("Verifying", total=total) as progress:
                found = store.verify(target, since=since, rate=rate, progress=progress)
        except KeyboardInterrupt:
            out.note(_interrupted(noted=store.writable))
            raise
    if out.as_json:
        out.data(found.as_dict())
    elif not out.quiet:
        _show_damage(out, found)
        out.done(_summary(found))
    if found.damaged or found.journals:
        raise IntegrityError(
            _damage(found),
            hint="damaged checkpoints are passed over from now on; `holdfast doctor` shows what "
            "can be mended",
        )
    if found.unread:
        raise HoldfastError(
            f"{count(len(found.unread), 'checkpoint')} could not be read",
            hint="they may be sound: check their permissions, and ulimit -n",
        )


def _interrupted(*, noted: bool) -> str:
    if not noted:
        return "Interrupted. Nothing is noted: the store is open for reading only."
    return (
        "Interrupted. What was verified until here is noted: "
        "`holdfast verify --since 1d` goes on from here."
    )


def _summary(found: Any) -> str:
    checked = count(len(found.checked), "checkpoint")
    read = f"{nbytes_text(found.nbytes)} in {count(found.files, 'file')} read"
    skipped = f"{len(found.skipped):,} verified since, " if found.skipped else ""
    return f"{checked}, {read}, {skipped}{len(found.damaged)} damaged."


def _usage(
    session: Session,
    *,
    budget: Annotated[
        str | None, typer.Option(metavar="SIZE", help='Show it against a budget: "2GB".')
    ] = None,
) -> None:
    """Show what takes space, per run and in all; shared bytes are counted once."""
    out = session.out
    with session.store() as store:
        usage = store.usage()
    against = usage.against(budget) if budget is not None else None
    if out.as_json:
        numbers = usage.as_dict()
        if against is not None:
            numbers["budget"] = {
                "used_nbytes": against.used_nbytes,
                "limit_nbytes": against.limit_nbytes,
                "exceeded": against.exceeded,
            }
        out.data(numbers)
        return
    if not out.quiet:
        columns = (
            Column("RUN", style="bold"),
            Column("CHECKPOINTS", right=True),
            Column("LOGICAL", right=True),
            Column("STORED", right=True),
            Column("ITS OWN", right=True),
        )
        rows = [
            (
                name,
                str(run.checkpoints),
                *map(nbytes_text, (run.nbytes, run.stored_nbytes, run.unique_nbytes)),
            )
            for name, run in usage.runs.items()
        ]
        out.table(columns, rows)
        out.lines([""])
    stored, logical = nbytes_text(usage.stored_nbytes), nbytes_text(usage.nbytes)
    if against is None:
        saved = nbytes_text(usage.saved_nbytes)
        out.lines([f"{stored} stored for {logical} of checkpoints: sharing saves {saved}."])
        return
    out.lines([f"{stored} / {nbytes_text(against.limit_nbytes)}  {_bar(against.share)}"])
    if against.exceeded:
        over = nbytes_text(against.over_nbytes)
        out.lines([f"{over} over the budget: `holdfast plan` shows what can go."])


def _bar(share: float) -> str:
    filled = min(round(share * _BAR_WIDTH), _BAR_WIDTH)
    return f"{'█' * filled}{'░' * (_BAR_WIDTH - filled)} {share:.0%}"


def _doctor(
    session: Session,
    *,
    apply: Annotated[bool, typer.Option("--apply", help="Set right what was found.")] = False,
    mirror: Annotated[
        list[str] | None,
        typer.Option(
            "--mirror",
            metavar="PATH",
            help="A mirror to mend from, besides those that the store remembers.",
        ),
    ] = None,
) -> None:
    """Show what the place can do, and what interrupted work and damage left behind.

    Exits with 1 when something is left that was not set right.
    """
    out = session.out
    if apply and mirror:
        bring_back(session, mirror)
    with session.store_to_mend(apply=apply, mirrors=mirror or ()) as store:
        total = store.usage().checkpoints if out.shows_progress else None
        with out.progress("Looking", total=total, unit="checkpoints") as progress:
            found = store.repair(apply=apply, progress=progress)
        place = dict(_place(store))
    if out.as_json:
        out.data({"place": place, **found.as_dict()})
    elif not out.quiet:
        out.facts((name.replace("_", " "), _answer(value)) for name, value in place.items())
        out.lines([""])
        _show_findings(out, found, applied=apply)
    if not found.ok:
        left = count(len(found.left), "finding")
        raise HoldfastError(
            f"{left} {'is' if len(found.left) == 1 else 'are'} left",
            hint="what to do stands with each of them"
            if apply
            else "`holdfast doctor --apply` sets right what it can",
        )


def _show_findings(out: Output, found: Any, *, applied: bool) -> None:
    if found.busy:
        out.note(f"Written at this moment, looked at in part: {', '.join(found.busy)}.")
    if not found.findings:
        out.lines(["Nothing was left behind."])
        return
    out.table(
        (
            Column("KIND", style="bold"),
            Column("PATH", wraps=True),
            Column("WHAT", wraps=True),
            Column("ACTION", wraps=True),
            Column("DONE"),
        ),
        [(f.kind, f.path, f.what, f.action, "yes" if f.done else "no") for f in found.findings],
    )
    if found.ok and not applied:
        out.note("`holdfast doctor --apply` sets it right.")


def _place(store: holdfast.Store) -> dict[str, Any]:
    able = store.capabilities
    described: dict[str, Any] = {"store": str(store.path), "writable": store.writable}
    if able is not None:
        described |= {
            "filesystem": able.filesystem,
            "hard_links": able.hard_links,
            "folder_sync": able.folder_sync,
            "direct_alignment": able.direct_alignment,
            "sqlite_wal": able.sqlite_wal,
        }
    return described


def _answer(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return nbytes_text(value) if value else "none"
    return str(value)


def _reindex(session: Session) -> None:
    """Rebuild the catalog from the checkpoints alone."""
    out = session.out
    with session.store(writing=True) as store:
        with out.progress("Indexing", total=len(store.runs()), unit="runs") as progress:
            runs = store.reindex(progress=progress)
        if out.as_json:
            out.data({"runs": runs, "checkpoints": store.usage().checkpoints})
        else:
            out.done(f"Indexed {count(runs, 'run')}.")


def _show_damage(out: Output, found: Any) -> None:
    rows = [(name, why) for name, reasons in found.damaged.items() for why in reasons]
    rows += [
        (f"journal of {run}", why) for run, reasons in found.journals.items() for why in reasons
    ]
    rows += [(f"{name} (unread)", why) for name, reasons in found.unread.items() for why in reasons]
    if rows:
        out.table((Column("DAMAGED", style="bold red"), Column("WHY", wraps=True)), rows)
        out.lines([""])


def _damage(found: Any) -> str:
    if not found.damaged:
        return f"damaged journals: {', '.join(found.journals)}"
    named = ", ".join(list(found.damaged)[:_NAMED])
    more = ", ..." if len(found.damaged) > _NAMED else ""
    return f"damaged: {count(len(found.damaged), 'checkpoint')}: {named}{more}"
