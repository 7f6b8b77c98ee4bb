"""Commands that make pictures of a run: a chart, and a report as one HTML file."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from holdfast.cli import completing
from holdfast.cli.command import Session, command
from holdfast.cli.formatting import nbytes_text
from holdfast.errors import ConfigError, SaveError

_PANEL = "Look"
_STDOUT = "-"

Format = Literal["png", "svg"]
_FORMATS: tuple[Format, ...] = get_args(Format)

OneRun = Annotated[
    str, typer.Argument(metavar="RUN", help="A run.", autocompletion=completing.runs)
]
Force = Annotated[bool, typer.Option("--force", help="Write over what is there.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to the application."""
    command(
        app,
        "plot",
        examples=(
            "holdfast plot digits-cnn",
            "holdfast plot digits-cnn -m val_loss -m lr --log -o lr.svg",
            "holdfast plot digits-cnn -o - > digits.png",
        ),
        panel=_PANEL,
    )(_plot)
    command(
        app,
        "report",
        examples=("holdfast report digits-cnn", "holdfast report digits-cnn -o report.html"),
        panel=_PANEL,
    )(_report)


def _plot(
    session: Session,
    run: OneRun,
    *,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            "-m",
            help="What is shown, the first one large; up to 7. Left out, the run's own first.",
            autocompletion=completing.metrics,
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="A .png or an .svg; - for standard output. Left out, RUN.png.",
        ),
    ] = None,
    format: Annotated[
        Format | None,
        typer.Option(help="Where the file's name does not say it."),
    ] = None,
    width: Annotated[int, typer.Option(help="In pixels, 300 to 8000.")] = 1000,
    height: Annotated[
        int | None, typer.Option(help="In pixels; left out, what the panels need.")
    ] = None,
    log: Annotated[bool, typer.Option("--log", help="Values on a logarithmic scale.")] = False,
    dark: Annotated[bool, typer.Option("--dark", help="On dark paper.")] = False,
    force: Force = False,
) -> None:
    """Draw a run: its metrics, and what became of each checkpoint."""
    from holdfast.pictures import chart

    target = output or f"{_file_of(run)}.{format or 'png'}"
    chosen = _format_of(target, format)
    _check_target(session, target, force=force, binary=chosen == "png")
    with session.store() as store:
        picture = chart(
            store[run],
            chosen,
            metrics=tuple(metric or ()),
            width=width,
            height=height,
            log=log,
            dark=dark,
        )
    _write(session, target, picture, force=force, about={"run": run, "format": chosen})


def _report(
    session: Session,
    run: OneRun,
    *,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="- for standard output. Left out, RUN.html."
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Write all that is known of a run into one HTML file that needs no network and no script."""
    from holdfast.pictures import report

    target = output or f"{_file_of(run)}.html"
    _check_target(session, target, force=force, binary=False)
    with session.store() as store:
        page = report(store, run, now=time.time())
    _write(session, target, page.encode(), force=force, about={"run": run, "format": "html"})


def _file_of(run: str) -> str:
    return run.replace("/", "+")


def _format_of(target: str, given: Format | None) -> Format:
    """Returns the format that was given, or that the file's name tells.

    Raises:
        ConfigError: The two say different things, or neither says anything.
    """
    if target == _STDOUT:
        return given or "png"
    ending = Path(target).suffix.lower().removeprefix(".")
    found = next((known for known in _FORMATS if known == ending), None)
    if found is None and given is None:
        raise ConfigError(
            f"{target!r} does not say by its name what to draw",
            hint=f"let it end with {' or '.join(f'.{known}' for known in _FORMATS)}",
        )
    if found is not None and given not in (None, found):
        raise ConfigError(f"{target!r} is no name for {given}", hint="leave --format out")
    return found or given or "png"


def _check_target(session: Session, target: str, *, force: bool, binary: bool) -> None:
    """Raises `ConfigError` for a target that cannot be written to, before anything is drawn."""
    if target == _STDOUT:
        if session.out.as_json:
            raise ConfigError(
                "a picture and JSON cannot both go to standard output",
                hint="leave --json out, or name a file",
            )
        if binary and session.out.to_terminal:
            raise ConfigError(
                "a terminal cannot show a PNG", hint="name a file, or redirect the output"
            )
    elif Path(target).exists() and not force:
        raise _taken(target)


def _write(
    session: Session, target: str, data: bytes, *, force: bool, about: dict[str, object]
) -> None:
    if target == _STDOUT:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    path = Path(target)
    try:
        _put(path, data, force=force)
    except FileExistsError as error:
        raise _taken(target) from error
    except OSError as error:
        raise SaveError(
            f"{target} cannot be written: {error.strerror}", hint="name another file with -o"
        ) from error
    if session.out.as_json:
        session.out.data({**about, "path": str(path.absolute()), "nbytes": len(data)})
    elif session.out.quiet:
        session.out.code([target])
    else:
        session.out.done(f"{target}, {nbytes_text(len(data))}")


def _put(path: Path, data: bytes, *, force: bool) -> None:
    """Writes a file; one that is written over changes as a whole, whoever has it open."""
    draft = path.with_name(f".{path.name[:80]}.{os.getpid()}") if force else path
    with draft.open("xb") as file:
        try:
            file.write(data)
            file.flush()
        except OSError:
            draft.unlink()
            raise
    if force:
        draft.replace(path)


def _taken(target: str) -> ConfigError:
    return ConfigError(
        f"{target} is there already", hint="pass --force, or name another file with -o"
    )
