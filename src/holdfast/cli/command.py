"""What all commands share: the global options, the store, errors and exit codes."""

from __future__ import annotations

import inspect
import logging
import os
import signal
import sys
import threading
import traceback
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

import holdfast
from holdfast.cli.finding import (
    VARIABLE,
    find_store,
    is_store_file,
    open_store,
    set_store_file_aside,
)
from holdfast.cli.formatting import printable
from holdfast.cli.output import Output
from holdfast.errors import HoldfastError, IntegrityError

_PANEL = "Global options"
#: What a shell reports for a process that Ctrl-C, or a reader that went away, has ended: 128 and
#: the number of the signal (POSIX.1-2017, XCU 2.8.2).
_INTERRUPTED = 130
_TERMINATED = 143
_PIPE_CLOSED = 141

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        "-s",
        metavar="PATH",
        help=f"The store (or ${VARIABLE}); otherwise the nearest one upwards, ./checkpoints, "
        "./models/checkpoints.",
        rich_help_panel=_PANEL,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON and nothing else.", rich_help_panel=_PANEL)
]
QuietOption = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Print names and ids only.", rich_help_panel=_PANEL),
]
VerboseOption = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Show the log, and where an error came from.",
        rich_help_panel=_PANEL,
    ),
]


@dataclass(frozen=True, slots=True)
class Settings:
    """The global options; each may stand before the command or after it."""

    store: str | None = None
    as_json: bool = False
    quiet: bool = False
    verbose: bool = False

    def over(self, earlier: Settings | None) -> Settings:
        """Returns these settings, with those given earlier where these say nothing."""
        if earlier is None:
            return self
        return Settings(
            store=self.store or earlier.store,
            as_json=self.as_json or earlier.as_json,
            quiet=self.quiet or earlier.quiet,
            verbose=self.verbose or earlier.verbose,
        )


class Session:
    """What a command works with.

    Attributes:
        settings: The global options.
        out: Where it writes.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.out = Output(as_json=settings.as_json, quiet=settings.quiet)

    @contextmanager
    def store(
        self, *, writing: bool = False, create: bool = False, mirrors: Sequence[str] = ()
    ) -> Iterator[holdfast.Store]:
        """Opens the store for a block; arguments and errors as `open_store`."""
        url = self.where()
        with open_store(url, writing=writing, create=create, mirrors=mirrors) as store:
            yield store

    def where(self) -> str:
        """Returns the path or URL of the store; errors as `find_store`."""
        return find_store(self.settings.store, start=Path.cwd())

    @contextmanager
    def store_to_mend(
        self, *, apply: bool, mirrors: Sequence[str] = ()
    ) -> Iterator[holdfast.Store]:
        """Opens a store that may lack the file that makes it one.

        Args:
            apply: Whether a damaged one is moved aside and made anew; otherwise the store is
                opened for reading, which does without.
            mirrors: Its mirrors, besides those that it remembers.
        """
        with ExitStack() as stack:
            try:
                store = stack.enter_context(self.store(writing=True, mirrors=mirrors))
            except IntegrityError as error:
                if not is_store_file(error):
                    raise
                if apply:
                    set_store_file_aside(self.where())
                store = stack.enter_context(self.store(writing=apply, mirrors=mirrors))
            yield store


def command(
    app: typer.Typer, name: str, *, examples: Sequence[str], panel: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers a function as a command.

    The function's first parameter is the `Session`; the others are the command's own. It gets the
    global options besides, and what it raises becomes one line and an exit code.

    Args:
        app: Where to.
        name: The command.
        examples: Lines for the end of its help.
        panel: Its group in the list of commands.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        epilog = "\n".join(("Examples:", *(f"  $ {line}" for line in examples)))
        app.command(name, epilog=epilog, rich_help_panel=panel)(_with_globals(function))
        return function

    return register


def _with_globals(function: Callable[..., None]) -> Callable[..., None]:
    """Returns the function with the global options in place of its session."""

    def run(
        *,
        ctx: typer.Context,
        store: StoreOption = None,
        as_json: JsonOption = False,
        quiet: QuietOption = False,
        verbose: VerboseOption = False,
        **own: Any,
    ) -> None:
        settings = Settings(store, as_json, quiet, verbose).over(ctx.obj)
        code = guarded(settings, lambda session: function(session, **own))
        if code:
            raise typer.Exit(code)

    own = list(inspect.signature(function).parameters.values())[1:]
    shared = [p for p in inspect.signature(run).parameters.values() if p.name != "own"]
    hints = {
        **typing.get_type_hints(function, include_extras=True),
        **typing.get_type_hints(run, include_extras=True),
    }
    # Typer reads the command line's shape from a function's signature.
    parameters = [
        p.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[p.name])
        for p in (*own, *shared)
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    run.__doc__ = function.__doc__
    run.__name__ = function.__name__
    return run


def guarded(settings: Settings, work: Callable[[Session], None]) -> int:
    """Does a command's work and returns the exit code; an error becomes a line for people.

    Args:
        settings: The global options.
        work: The command.
    """
    session = Session(settings)
    try:
        with _log_on_stderr(settings), _ended_by_sigterm():
            work(session)
            sys.stdout.flush()
    except HoldfastError as error:
        _report(session, error)
        return error.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader, `head` perhaps, has what it wants. What is still buffered has nowhere to go,
        # and the interpreter would complain about it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    return 0


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Lets SIGTERM leave a command in good order: what it has for the time being is removed."""
    if threading.current_thread() is not threading.main_thread():
        # Only there may a handler be set; a test may run commands elsewhere.
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(_TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _report(session: Session, error: HoldfastError) -> None:
    if session.settings.verbose:
        sys.stderr.write(printable("".join(traceback.format_exception(error)), lines=True))
    if not session.settings.as_json:
        session.out.error(error.message, hint=error.hint)
        return
    session.out.error_data(
        {
            "error": type(error).__name__,
            "message": error.message,
            "hint": error.hint,
            "exit_code": error.exit_code,
            "nearest": getattr(error, "nearest", ()),
        }
    )


class _Inert(logging.Formatter):
    """Log lines that cannot drive a terminal, whatever they tell of."""

    def format(self, record: logging.LogRecord) -> str:
        # Further lines are set in: none looks like a log line of its own.
        return printable(super().format(record), lines=True).replace("\n", "\n  ")


@contextmanager
def _log_on_stderr(settings: Settings) -> Iterator[None]:
    logger = logging.getLogger("holdfast")
    handler = logging.StreamHandler()
    handler.setFormatter(_Inert("%(levelname)s: %(message)s"))
    if settings.verbose:
        level = logging.DEBUG
    else:
        level = logging.ERROR if settings.quiet or settings.as_json else logging.WARNING
    before = logger.level
    logger.setLevel(level)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
