"""Opening a run for writing: its name, its lock, and what its last owner left unfinished."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from holdfast import environment
from holdfast.engine import names
from holdfast.engine.background import Backlog
from holdfast.engine.sealed import encode_numbers
from holdfast.errors import ConfigError
from holdfast.lifecycle.history import RunHistory
from holdfast.lifecycle.ownership import take_up
from holdfast.lifecycle.place import Place
from holdfast.lifecycle.prune import finish_interrupted, sweep_unfinished
from holdfast.lifecycle.reindex import refresh_run
from holdfast.lifecycle.remembering import remember
from holdfast.model import Mode, RunInfo, metric_mode
from holdfast.policy.retention import KeepPolicy
from holdfast.policy.saving import SavePolicy
from holdfast.policy.stopping import StopPolicy
from holdfast.policy.thresholds import Size
from holdfast.storage import FileLock

_log = logging.getLogger("holdfast")

#: A restarted job meets the lock of its dying predecessor for a while.
LOCK_TIMEOUT_S: Final = 30.0

IfExists = Literal["resume", "new", "error"]
SnapshotMode = Literal["copy", "overlap"]
OnSaveError = Literal["warn", "raise"]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What `Store.run` was asked for; attributes as its arguments."""

    save: SavePolicy
    keep: KeepPolicy
    stop: StopPolicy | None = None
    metric: str | None = None
    mode: Mode | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    if_exists: IfExists = "resume"
    parent: str | None = None
    on_save_error: OnSaveError = "warn"
    backlog: Backlog = "wait"
    snapshot: SnapshotMode = "copy"
    memory: int | str | None = None

    def bound(self) -> RunOptions:
        """Returns the same with the run's metric filled in where a policy names none.

        Raises:
            ConfigError: An argument cannot be meant, or a metric's direction is unknown.
        """
        _check("if_exists", self.if_exists, ("resume", "new", "error"))
        _check("on_save_error", self.on_save_error, ("warn", "raise"))
        _check("backlog", self.backlog, ("wait", "skip", "latest"))
        _check("snapshot", self.snapshot, ("copy", "overlap"))
        mode = metric_mode(self.metric, self.mode) if self.metric else None
        return RunOptions(
            save=self.save.bind(self.metric, mode),
            keep=self.keep.bind(self.metric, mode),
            stop=None if self.stop is None else self.stop.bind(self.metric, mode),
            metric=self.metric,
            mode=mode,
            config=dict(self.config),
            if_exists=self.if_exists,
            parent=self.parent,
            on_save_error=self.on_save_error,
            backlog=self.backlog,
            snapshot=self.snapshot,
            memory=None if self.memory is None else Size.of(self.memory, asker="memory").nbytes,
        )

    @property
    def memory_nbytes(self) -> int | None:
        """What snapshots may take; None where it is left to the backlog."""
        return self.memory if isinstance(self.memory, int) else None


@dataclass(frozen=True, slots=True)
class OpenedRun:
    """A run whose lock this process holds.

    Attributes:
        name: Its name, which `if_exists="new"` may have numbered.
        lock: Its lock.
        history: What its journal says, up to date.
        before: The run as its last opening described it; None for a new one.
        started_at: When this process opened it.
        durable: Ids of the checkpoints that exist.
    """

    name: str
    lock: FileLock
    history: RunHistory
    before: RunInfo | None
    started_at: float
    durable: frozenset[str]


def open_run(place: Place, name: str, options: RunOptions) -> OpenedRun:
    """Takes a run's lock, finishes what was interrupted, and notes the opening.

    Raises:
        ConfigError: The name is not allowed, or taken with `if_exists="error"`.
        LockedError: Another process writes the run.
    """
    name = _choose_name(place, names.check_run(name), options.if_exists)
    lock = take_up(place.storage, name, timeout_s=LOCK_TIMEOUT_S)
    try:
        history = RunHistory(place.journal(name)).refresh()
        remember(place, name, history)
        before = history.run
        if before is not None and before.status == "running":
            _log.info("%s", _last_words(name, history, lock))
        finish_interrupted(place, name, history)
        sweep_unfinished(place, name, history)
        now = time.time()
        place.journal(name).append([_note(name, options, before, now)], durable=True)
        history.refresh()
        refresh_run(place, name)
        durable = {i for i in place.checkpoint_ids(name) if place.has_manifest(name, i)}
        for run, checkpoint_id in place.catalog.pending():
            if run == name:
                place.catalog.clear_pending(checkpoint_id)
    except BaseException:
        lock.release()
        raise
    return OpenedRun(name, lock, history, before, now, frozenset(durable))


def _last_words(name: str, history: RunHistory, lock: FileLock) -> str:
    """Returns what is known of an owner that did not close its run."""
    owner = lock.predecessor
    who = f" ({owner}, since {owner.began})" if owner else ""
    step = f" after step {history.steps[-1].step}" if history.steps else " before its first step"
    return f"the last owner of {name}{who} died{step}: its run is taken over"


def writes_here() -> bool:
    """Returns whether this process of a distributed job is the one that writes."""
    return os.environ.get("RANK", "0") in ("", "0")


def _choose_name(place: Place, name: str, if_exists: IfExists) -> str:
    taken = set(place.run_names())
    if name not in taken or if_exists == "resume":
        return name
    if if_exists == "error":
        raise ConfigError(
            f"the run {name!r} exists already",
            hint="choose another name, or if_exists='resume' or 'new'",
        )
    number = 2
    while f"{name}-{number}" in taken:
        number += 1
    return f"{name}-{number}"


def _note(name: str, options: RunOptions, before: RunInfo | None, now: float) -> dict[str, Any]:
    return {
        "t": "run",
        "at": now,
        "name": name,
        "created_at": before.created_at if before else now,
        "metric": options.metric,
        "mode": options.mode,
        "config": encode_numbers(options.config),
        "policies": {
            "save": str(options.save),
            "keep": str(options.keep),
            **({} if options.stop is None else {"stop": str(options.stop)}),
        },
        "parent": options.parent,
        "environment": environment.describe(),
        "session": secrets.token_hex(8),
    }


def _check(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(
            f"{name}={value!r} is none of {', '.join(map(repr, allowed))}",
            hint=f"pass one of them as {name}",
        )
