"""What the shell offers at the Tab key: runs, references, metrics, tags of the store at hand."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import typer

import holdfast
from holdfast.cli.finding import find_store, open_store
from holdfast.errors import HoldfastError

_log = logging.getLogger("holdfast")

_NEWEST = 50


def runs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Returns names of runs."""
    return _ask(ctx, incomplete, lambda store: (run.name for run in store.runs()))


def references(ctx: typer.Context, incomplete: str) -> list[str]:
    """Returns references: of a run once its name stands there, of all runs before."""

    def offered(store: holdfast.Store) -> Iterator[str]:
        name, at, _ = incomplete.rpartition("@")
        for run in store.runs():
            if at and run.name == name:
                yield f"{name}@latest"
                yield from (f"{name}@best:{metric}" for metric in run.metric_names())
                newest = run.checkpoints(limit=_NEWEST)
                yield from (f"{name}@step:{checkpoint.step}" for checkpoint in newest)
                tags = {tag for checkpoint in newest for tag in checkpoint.tags}
                yield from (f"{name}@tag:{tag}" for tag in sorted(tags))
            elif not at:
                yield f"{run.name}@latest"
                if run.metric:
                    yield f"{run.name}@best:{run.metric}"
        if not at:
            yield from (checkpoint.id for checkpoint in store.checkpoints(limit=_NEWEST))

    return _ask(ctx, incomplete, offered)


def runs_and_references(ctx: typer.Context, incomplete: str) -> list[str]:
    """Returns names of runs, and references."""
    found = references(ctx, incomplete)
    return [*runs(ctx, incomplete), *found]


def metrics(ctx: typer.Context, incomplete: str) -> list[str]:
    """Returns names of metrics: of the run that was named, or of all."""
    named = ctx.params.get("run")

    def offered(store: holdfast.Store) -> Iterator[str]:
        chosen = [run for run in store.runs() if named in (None, run.name)]
        yield from sorted({metric for run in chosen for metric in run.metric_names()})

    return _ask(ctx, incomplete, offered)


def _ask(
    ctx: typer.Context, incomplete: str, offered: Callable[[holdfast.Store], Iterator[str]]
) -> list[str]:
    parent = ctx.parent.params if ctx.parent else {}
    given = ctx.params.get("store") or parent.get("store")
    try:
        with open_store(find_store(given, start=Path.cwd())) as store:
            found = (text for text in offered(store) if text.startswith(incomplete))
            # What the shell shows as it is, and would put into the line.
            return [text for text in found if text.isprintable()]
    except HoldfastError as error:
        # An error message in the middle of a half-typed line would help nobody.
        _log.debug("nothing to offer: %s", error)
        return []
