"""Looking after a store: what takes space, what can go, what is damaged."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from holdfast import references
from holdfast.errors import ConfigError
from holdfast.lifecycle import (
    health,
    mirroring,
    mirrors,
    planning,
    reindex,
    repairing,
    usage,
    verifying,
)
from holdfast.lifecycle.expression import parse_keep
from holdfast.lifecycle.findings import Findings
from holdfast.lifecycle.mirroredrun import Mirrored
from holdfast.lifecycle.pacing import Pacer
from holdfast.lifecycle.place import Place
from holdfast.lifecycle.verification import Verification
from holdfast.mirroredplace import mirror_of
from holdfast.model import Plan
from holdfast.policy import ages
from holdfast.policy.retention import KeepPolicy
from holdfast.reading import find, require_run


class Upkeep:
    """The part of a `Store` that looks after it."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def usage(self) -> usage.Usage:
        """Returns what takes space, per run and in all; shared bytes are counted once."""
        return usage.measure(self._place)

    def prune(self, run: str | None = None, *, policy: KeepPolicy | str | None = None) -> Plan:
        """Returns what a clean-up would keep, thin and delete; `Plan.apply` carries it out.

        Args:
            run: Only this run; left out, all.
            policy: What to keep, or its text (``"best(5) | latest(2)"``); left out, what each run
                was opened with.

        Raises:
            NotFoundError: There is no such run.
            ConfigError: The text is no policy, or a run's metric is needed and unknown.
        """
        if run is not None:
            require_run(self._place, run)
        if isinstance(policy, str):
            policy = parse_keep(policy)
        return planning.prune(self._place, run, policy)

    def delete(self, pattern: str) -> Plan:
        """Returns a plan that deletes runs, or one checkpoint; `Plan.apply` carries it out.

        Args:
            pattern: A run's name, a glob pattern of names (``"study/*"``), or a reference.

        Raises:
            NotFoundError: Nothing matches.
            LockedError: A run that matches is being written; nothing is deleted then.
        """
        if self._place.catalog.run(pattern) is None and references.is_reference(pattern):
            record = find(self._place, references.parse(pattern)).record
            return planning.delete_checkpoint(self._place, record, asked=pattern)
        return planning.delete_runs(self._place, pattern)

    def verify(
        self,
        target: str | None = None,
        *,
        since: float | str | None = None,
        rate: float | str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Verification:
        """Reads checkpoints in full and compares every digest; each shard file is read once.

        What was verified is noted as it goes on, so that an interrupted verification loses
        little: the same call with `since` goes on.

        Args:
            target: A run or a reference; left out, the whole store.
            since: Leaves out what was verified since then: an age such as ``"7d"``, ``"12h"`` or
                ``"30m"``, or in seconds, or a date such as ``"2026-01-31"``.
            rate: Bounds how fast is read: ``"50MB/s"``, or bytes per second. What was not in the
                page cache before does not stay there, then.
            progress: Called with bytes as they are read; `verify_nbytes` says how many there
                will be.

        Returns:
            What was read and what is damaged; damage is noted, and set aside by every plan, and
            no later save reuses a damaged shard.

        Raises:
            NotFoundError: There is no such run or checkpoint.
            ConfigError: `since` is no age and no date, or `rate` no rate.
        """
        pace = None if rate is None else Pacer(ages.rate_of(rate, asker="rate")).take
        return verifying.verify(
            self._place, self._id_of(target), since=_moment(since), pace=pace, progress=progress
        )

    def verify_nbytes(self, target: str | None = None, *, since: float | str | None = None) -> int:
        """Returns how many bytes `verify` is going to read with these arguments."""
        return verifying.nbytes_to_read(self._place, self._id_of(target), since=_moment(since))

    def verified(self) -> dict[str, health.Verified]:
        """Returns what verifications found so far, by run: when, how much, and what is damaged."""
        return health.verified(self._place)

    def mirror_states(self) -> tuple[health.MirrorState, ...]:
        """Returns how far the mirrors are that it was opened with or had before; copies nothing."""
        return health.mirror_states(self._place)

    def mirror(
        self,
        run: str | None = None,
        *,
        to: str | os.PathLike[str] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> tuple[Mirrored, ...]:
        """Brings mirrors up to date with the store: those that it was opened with or had before.

        Args:
            run: Only this run; left out, all.
            to: Only this folder, which is made where it is not there.
            progress: Called with bytes that are there now, copied or not.

        Returns:
            What was done in each mirror. What could not be copied is among its problems; damage
            is never copied, and deletions follow the journal alone.

        Raises:
            NotFoundError: There is no such run.
            ConfigError: There is no mirror, or the folder cannot be one.
        """
        if run is not None:
            require_run(self._place, run)
        known = mirrors.all_of(self._place)
        storage = self._place.storage
        chosen = known if to is None else (mirror_of(to, store=storage.root, posix=storage.posix),)
        if not chosen:
            raise ConfigError(
                f"{self._place.label} has no mirror",
                hint="name one: mirror(to=PATH), or holdfast.open(..., mirrors=[PATH])",
            )
        runs = self._place.run_names() if run is None else [run]
        report = progress or _ignore
        return tuple(
            mirroring.mirror_runs(self._place, mirror, runs, anew=to is not None, progress=report)
            for mirror in chosen
        )

    def repair(
        self, *, apply: bool = False, progress: Callable[[int], None] | None = None
    ) -> Findings:
        """Finds what interrupted work and damage left behind and, with `apply`, sets it right.

        What is missing or damaged is taken from mirrors that have it, those that the store was
        opened with or had before; all of it is checked on the way. No checkpoint is deleted,
        whatever its state; a damaged file that must make way goes to ``quarantine/``. Tensors are
        read only of checkpoints that are noted as damaged; `verify` finds damage.

        Args:
            apply: Whether to change anything.
            progress: Called with 1 per checkpoint that was looked at.

        Raises:
            ConfigError: `apply` where the store is open for reading only.
        """
        return repairing.repair(self._place, apply=apply, progress=progress)

    def reindex(self, *, progress: Callable[[int], None] | None = None) -> int:
        """Rebuilds the catalog from the files; returns the number of runs."""
        return reindex.reindex(self._place, progress=progress or _ignore)

    def _id_of(self, target: str | None) -> str | None:
        """Returns a run's name as it is, and the id that a reference chooses."""
        known = target is None or self._place.catalog.run(target) is not None
        if known or not references.is_reference(str(target)):
            return target
        parsed = references.parse(str(target))
        # An id is taken as it is: what is damaged may not be found any more.
        return parsed.value if parsed.by == "id" else find(self._place, parsed).id


def _moment(since: float | str | None) -> float | None:
    return None if since is None else ages.moment_of(since, now=time.time(), asker="since")


def _ignore(_: int) -> None:
    pass
