"""What the catalog answers about runs and checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, select

from holdfast.catalog.filters import parse
from holdfast.catalog.pages import Selection, in_batches, order_of, page
from holdfast.catalog.prepared import Prepared
from holdfast.catalog.rows import checkpoint_of, run_of
from holdfast.catalog.schema import checkpoints, pending, runs, scores, sync, tags
from holdfast.catalog.session import Session
from holdfast.catalog.usage import Usage, usage_of
from holdfast.errors import ConfigError
from holdfast.model import CheckpointRecord, RunInfo, metric_mode


class SyncState(NamedTuple):
    """How far the catalog has followed a run.

    Attributes:
        journal_nbytes: Length of the part of its journal that was seen.
        folder_mtime_ns: When its folder had changed last.
        filling: Another number each time that all rows of the run were written anew.
    """

    journal_nbytes: int
    folder_mtime_ns: int
    filling: int


class Queries(Session):
    """Look-ups of runs and checkpoints. Each runs on one snapshot and changes nothing.

    All of them raise `IntegrityError` for a damaged catalog and `LockedError` for one that stays
    locked.
    """

    def runs(self) -> list[RunInfo]:
        """Returns all runs, in the order of their names."""
        statement = select(runs).order_by(runs.c.name)
        return self._read(lambda connection: [run_of(row) for row in connection.execute(statement)])

    def run_names(self) -> list[str]:
        """Returns the names of all runs, sorted."""
        statement = select(runs.c.name).order_by(runs.c.name)
        return self._read(lambda connection: list(connection.execute(statement).scalars()))

    def run(self, name: str) -> RunInfo | None:
        """Returns a run, or None."""
        statement = select(runs).where(runs.c.name == name)
        row = self._read(lambda connection: connection.execute(statement).one_or_none())
        return None if row is None else run_of(row)

    def checkpoints(
        self,
        run: str | None = None,
        *,
        where: str | None = None,
        order_by: str = "-created_at",
        limit: int | None = None,
        offset: int = 0,
    ) -> list[CheckpointRecord]:
        """Returns checkpoints of a run or of all, filtered and in order.

        Args:
            run: Name of the run; None for all.
            where: A filter such as ``loss < 0.3 and tag = prod`` (see `holdfast.catalog.filters`).
            order_by: ``created_at``, ``step``, ``epoch``, ``nbytes``, ``id`` or a metric, with
                ``-`` before it for the greatest first. Those without a value come last.
            limit: How many at most; None for all.
            offset: How many to leave out first.

        Raises:
            ConfigError: The filter or the order cannot be read, or a number is negative.
        """
        if offset < 0 or (limit is not None and limit < 0):
            raise ConfigError(
                f"limit={limit}, offset={offset} cannot be meant", hint="pass 0 or more"
            )
        terms, order = parse(where or ""), order_of(order_by)

        def ask(connection: Connection) -> list[CheckpointRecord]:
            selection = Selection(run, terms, connection.dialect.name)
            ids = page(connection, selection, order, limit=limit, offset=offset)
            return _records(connection, ids)

        return self._read(ask)

    def count(self, run: str | None = None, *, where: str | None = None) -> int:
        """Returns how many checkpoints a run has, or all have, that match a filter."""
        terms = parse(where or "")
        return self._read(
            lambda connection: Selection(run, terms, connection.dialect.name).total(connection)
        )

    def ids(self, run: str) -> set[str]:
        """Returns the ids of all checkpoints of a run."""
        statement = select(checkpoints.c.id).where(checkpoints.c.run == run)
        return self._read(lambda connection: set(connection.execute(statement).scalars()))

    def get(self, checkpoint_id: str) -> CheckpointRecord | None:
        """Returns a checkpoint, or None."""
        row = self._read(lambda connection: _GET.row(connection, checkpoint_id))
        return None if row is None else checkpoint_of(row)

    def best(self, metric: str, mode: str, *, run: str | None = None) -> CheckpointRecord | None:
        """Returns the checkpoint with the best value of a metric, or None.

        Only finite values of full and weights checkpoints that are not damaged count; of equal
        values the earlier wins.

        Args:
            metric: Flat name of the metric.
            mode: ``min`` or ``max``.
            run: Name of the run; None for all.

        Raises:
            ConfigError: The mode is neither.
        """
        lowest = metric_mode(metric, mode) == "min"
        where = [scores.c.name == metric, scores.c.rankable == 1]
        if run is not None:
            where.append(scores.c.run == run)
        direction = scores.c.value.asc() if lowest else scores.c.value.desc()
        # Two look-ups: in one, all checkpoints that tie for the best value would be sorted.
        value = select(scores.c.value).where(*where).order_by(direction).limit(1)
        found = (
            select(scores.c.checkpoint)
            .where(*where, scores.c.value == value.scalar_subquery())
            .order_by(scores.c.created_at, scores.c.checkpoint)
            .limit(1)
        )
        return self._read(
            lambda connection: _first(
                _records(connection, connection.execute(found).scalars().all())
            )
        )

    def latest(self, run: str | None = None) -> CheckpointRecord | None:
        """Returns the newest full or weights checkpoint that is not damaged, or None."""
        where = [checkpoints.c.rankable == 1]
        if run is not None:
            where.append(checkpoints.c.run == run)
        newest = (checkpoints.c.created_at.desc(), checkpoints.c.id.desc())
        statement = select(checkpoints).where(*where).order_by(*newest).limit(1)
        row = self._read(lambda connection: connection.execute(statement).one_or_none())
        return None if row is None else checkpoint_of(row)

    def at_step(self, run: str, step: int) -> CheckpointRecord | None:
        """Returns the newest checkpoint of a step, whatever its kind, or None."""
        statement = (
            select(checkpoints)
            .where(checkpoints.c.run == run, checkpoints.c.step == step)
            .order_by(checkpoints.c.created_at.desc(), checkpoints.c.id.desc())
            .limit(1)
        )
        row = self._read(lambda connection: connection.execute(statement).one_or_none())
        return None if row is None else checkpoint_of(row)

    def tagged(self, run: str | None, tag: str) -> CheckpointRecord | None:
        """Returns the newest checkpoint with a tag, of a run or of all, or None."""
        where = [tags.c.tag == tag]
        if run is not None:
            where.append(tags.c.run == run)
        statement = (
            select(tags.c.checkpoint)
            .where(*where)
            .order_by(tags.c.created_at.desc(), tags.c.checkpoint.desc())
            .limit(1)
        )
        return self._read(
            lambda connection: _first(
                _records(connection, connection.execute(statement).scalars().all())
            )
        )

    def usage(self) -> Usage:
        """Returns what the checkpoints take, per run and in all."""
        return self._read(usage_of)

    def pending(self) -> list[tuple[str, str]]:
        """Returns ``(run, checkpoint id)`` of the saves that were announced and not yet settled."""
        statement = select(pending.c.run, pending.c.checkpoint).order_by(
            pending.c.run, pending.c.checkpoint
        )
        return self._read(
            lambda connection: [(row.run, row.checkpoint) for row in connection.execute(statement)]
        )

    def sync_states(self) -> dict[str, tuple[int, int]]:
        """Returns, for each run, ``(journal_nbytes, folder_mtime_ns)`` as last set."""
        return self._read(
            lambda connection: {
                run: (nbytes, modified) for run, nbytes, modified in _SYNC_STATES.rows(connection)
            }
        )

    def sync_state(self, run: str) -> SyncState | None:
        """Returns how far the catalog has followed a run; None where it does not know the run."""
        row = self._read(lambda connection: _SYNC_STATE.row(connection, run))
        return None if row is None else SyncState(*row)


_GET = Prepared(
    lambda _: select(checkpoints).where(checkpoints.c.id == bindparam("checkpoint")), "checkpoint"
)
_SYNC_STATES = Prepared(lambda _: select(sync.c.run, sync.c.journal_nbytes, sync.c.folder_mtime_ns))
_SYNC_STATE = Prepared(
    lambda _: select(sync.c.journal_nbytes, sync.c.folder_mtime_ns, sync.c.filling).where(
        sync.c.run == bindparam("run")
    ),
    "run",
)


def _first(records: Sequence[CheckpointRecord]) -> CheckpointRecord | None:
    return records[0] if records else None


def _records(connection: Connection, ids: Sequence[str]) -> list[CheckpointRecord]:
    found: dict[str, CheckpointRecord] = {}
    for some in in_batches(ids):
        for row in connection.execute(select(checkpoints).where(checkpoints.c.id.in_(some))):
            found[row[0]] = checkpoint_of(row)
    # One that another process deleted since its id was read is not there any more.
    return [found[checkpoint_id] for checkpoint_id in ids if checkpoint_id in found]
