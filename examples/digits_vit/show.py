"""What a store says about itself, as tables for people."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

import holdfast

_STEP = re.compile(r"step (\d+): .*?(, saved .*)?$")


def section(console: Console, number: str, title: str) -> None:
    """Begins a section."""
    console.print()
    console.print(f"{number}. {title}", style="bold")


def parse_step(line: str) -> tuple[int, bool]:
    """Returns the step of a line of train.py, and whether it was saved.

    Raises:
        ValueError: The line does not begin with a step.
    """
    found = _STEP.match(line.strip())
    if found is None:
        raise ValueError(f"not a step: {line!r}")
    return int(found[1]), found[2] is not None


def differing_steps(
    one: Mapping[int, float], other: Mapping[int, float], *, steps: Iterable[int]
) -> list[int]:
    """Returns the steps whose values differ by a bit, or that one of the two does not have."""
    return [
        step
        for step in steps
        if step not in one or step not in other or one[step].hex() != other[step].hex()
    ]


def checkpoints(store: holdfast.Store, run: str) -> Table:
    """Returns the checkpoints of a run, oldest first."""
    table = Table("checkpoint", "step", "val_loss", "val_accuracy", "holds", "size")
    best = store.best("val_loss", run=run).id
    for checkpoint in store.checkpoints(run, order_by="created_at"):
        metrics = checkpoint.metrics
        table.add_row(
            f"{checkpoint.id} *" if checkpoint.id == best else checkpoint.id,
            str(checkpoint.step),
            f"{metrics['val_loss']:.4f}" if "val_loss" in metrics else "",
            f"{metrics['val_accuracy']:.2%}" if "val_accuracy" in metrics else "",
            "model only" if checkpoint.thinned else f"{len(checkpoint.items)} items",
            megabytes(checkpoint.nbytes),
        )
    table.caption = "* the best by val_loss"
    return table


def decisions(store: holdfast.Store, run: str) -> Table:
    """Returns why each checkpoint was saved, and what became of it and why; oldest first."""
    table = Table("step", "saved because", "now", "because")
    there = {checkpoint.id: checkpoint for checkpoint in store.checkpoints(run)}
    saved: dict[str, tuple[int, str]] = {}
    because: dict[str, str] = {}
    for decision in store[run].decisions():
        if decision.checkpoint_id is None:
            continue
        if decision.fate == "saved":
            saved[decision.checkpoint_id] = (decision.step, decision.reason)
        else:
            because[decision.checkpoint_id] = decision.reason
    for checkpoint_id, (step, reason) in saved.items():
        checkpoint = there.get(checkpoint_id)
        now = "deleted" if checkpoint is None else "thinned" if checkpoint.thinned else "kept"
        if checkpoint is None and checkpoint_id not in because:
            # Its save was under way when the process was killed.
            now = "never complete"
        table.add_row(str(step), reason, now, because.get(checkpoint_id, ""))
    return table


def usage(store: holdfast.Store) -> Table:
    """Returns what the runs take: as if nothing were shared, and on disk."""
    found = store.usage()
    table = Table("run", "checkpoints", "logical", "stored", "of it shared with other runs")
    for name, run in found.runs.items():
        table.add_row(
            name,
            str(run.checkpoints),
            megabytes(run.nbytes),
            megabytes(run.stored_nbytes),
            megabytes(run.stored_nbytes - run.unique_nbytes),
        )
    table.add_row(
        "all", str(found.checkpoints), megabytes(found.nbytes), megabytes(found.stored_nbytes), ""
    )
    return table


def next_commands(store: holdfast.Store, run: str, *, folder: str) -> list[str]:
    """Returns commands that show more of the store."""
    first, last = (
        store.checkpoints(run, order_by=order, limit=1)[0].id
        for order in ("created_at", "-created_at")
    )
    command = "holdfast"
    if shutil.which(command) is None:
        # In a virtual environment that is not active, it stands next to its python.
        command = str(Path(sys.executable).with_name(command))
    return [
        f"{command} {rest} --store {shlex.quote(folder)}"
        for rest in (
            f"ls {run}",
            f"explain {run}@best",
            f"history {run} val_loss",
            f"diff {first} {last}",
            f"verify {run}",
        )
    ]


def megabytes(nbytes: int) -> str:
    """Returns bytes as text in megabytes of 10^6 bytes."""
    return f"{nbytes / 1e6:.2f} MB"
