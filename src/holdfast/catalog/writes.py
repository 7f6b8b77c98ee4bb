"""What the catalog is told. Each call is one transaction, or part of an open one."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from sqlalchemy import BindParameter, Connection, bindparam, delete, select, update

from holdfast.catalog import schema, shares
from holdfast.catalog.pages import in_batches
from holdfast.catalog.prepared import Prepared, inserting
from holdfast.catalog.rows import (
    checkpoint_of,
    checkpoint_values,
    decision_values,
    name_values,
    rankable,
    run_values,
    score_values,
    step_values,
    tag_values,
    times_values,
)
from holdfast.catalog.session import Session
from holdfast.errors import NotFoundError
from holdfast.model import (
    CheckpointInfo,
    CheckpointRecord,
    Decision,
    Metrics,
    RunFacts,
    RunInfo,
    RunStatus,
    SaveTimes,
    StepRow,
)

#: Rows in one statement of a rebuild: enough to be fast, and bounded memory.
_BATCH = 5000


class Writes(Session):
    """Writes of facts that manifests and journals already hold.

    All of them raise `ConfigError` where the catalog is open for reading only, `LockedError` for
    one that stays locked, `IntegrityError` for a damaged one, `StorageFullError` without room.
    """

    def put_run(self, run: RunInfo) -> None:
        """Records a run, or records it anew; its checkpoints and steps stay."""
        with self._writing() as connection:
            _PUT_RUN(connection, *run_values(run))

    def set_status(self, run: str, status: RunStatus) -> None:
        """Sets a run's status.

        Raises:
            NotFoundError: The catalog does not know the run.
        """
        with self._writing() as connection:
            changed = connection.execute(
                update(schema.runs).where(schema.runs.c.name == run).values(status=status)
            )
            if changed.rowcount == 0:
                raise NotFoundError(
                    f"the catalog holds no run {run!r}", hint="run `holdfast reindex`"
                )

    def put_checkpoint(self, record: CheckpointRecord) -> None:
        """Records a checkpoint, or records it anew with all that belongs to it."""
        with self._writing() as connection:
            shares.alone(connection)
            _put(connection, _known(connection, record.info.id), record)

    def drop_checkpoint(self, checkpoint_id: str) -> None:
        """Removes a checkpoint; one that is not there is no error. Its decisions stay."""
        with self._writing() as connection:
            shares.alone(connection)
            known = _known(connection, checkpoint_id)
            if known is not None:
                _drop(connection, known)

    def report(self, checkpoint_id: str, metrics: Metrics) -> None:
        """Adds metrics to a checkpoint's, over those of the same name, and so ranks it anew.

        Raises:
            NotFoundError: The catalog does not know the checkpoint.
        """
        self._change(checkpoint_id, lambda info: replace(info, metrics={**info.metrics, **metrics}))

    def set_pinned(self, checkpoint_id: str, pinned: bool) -> None:
        """Pins a checkpoint or lets it go; raises `NotFoundError` for one that is not there."""
        self._change(checkpoint_id, lambda info: replace(info, pinned=pinned))

    def set_damaged(self, checkpoint_id: str, damaged: bool) -> None:
        """Marks a checkpoint as damaged or sound; raises `NotFoundError` as `set_pinned`."""
        self._change(checkpoint_id, lambda info: replace(info, damaged=damaged))

    def set_tags(self, checkpoint_id: str, tags: Iterable[str]) -> None:
        """Replaces a checkpoint's tags; raises `NotFoundError` as `set_pinned`."""
        chosen = tuple(sorted(set(tags)))
        self._change(checkpoint_id, lambda info: replace(info, tags=chosen))

    def add_steps(self, run: str, rows: Iterable[StepRow]) -> None:
        """Appends steps to a run's, in the order given."""
        recorded = list(rows)
        with self._writing() as connection:
            _ADD_STEP.many(connection, (step_values(run, row) for row in recorded))
            _ADD_NAME.many(connection, name_values(run, (row.metrics for row in recorded)))

    def add_decisions(self, run: str, decisions: Iterable[Decision]) -> None:
        """Appends decisions to a run's, in the order given."""
        with self._writing() as connection:
            _ADD_DECISION.many(connection, (decision_values(run, one) for one in decisions))

    def add_times(self, run: str, times: Iterable[SaveTimes]) -> None:
        """Appends to a run how long its saves took, in the order given."""
        with self._writing() as connection:
            _ADD_TIMES.many(connection, (times_values(run, one) for one in times))

    def void_steps(self, run: str, after_step: int, *, before_at: float) -> int:
        """Removes the steps that a resume takes back, so that histories show the replay alone.

        Args:
            run: Name of the run.
            after_step: The step resumed from; what lies beyond it goes.
            before_at: When it was resumed, seconds since the epoch; what is newer stays.

        Returns:
            How many rows went.
        """
        table = schema.steps.c
        with self._writing() as connection:
            removed = connection.execute(
                delete(schema.steps).where(
                    table.run == run, table.step > after_step, table.at < before_at
                )
            )
            return removed.rowcount

    def mark_pending(self, run: str, checkpoint_id: str) -> None:
        """Announces a checkpoint before its manifest is published."""
        with self._writing() as connection:
            _MARK_PENDING(connection, checkpoint_id, run)

    def clear_pending(self, checkpoint_id: str) -> None:
        """Settles an announcement; one that is not there is no error."""
        with self._writing() as connection:
            _CLEAR_PENDING(connection, checkpoint_id)

    def set_sync(self, run: str, *, journal_nbytes: int, folder_mtime_ns: int) -> None:
        """Records how far the catalog has followed a run's journal and folder."""
        with self._writing() as connection:
            _SET_SYNC(connection, run, journal_nbytes, folder_mtime_ns, 0)

    @contextmanager
    def rebuilding(self) -> Iterator[None]:
        """Rebuilds the catalog from nothing: forgets all, then takes `replace_run` for each run.

        All of it is one transaction: others see the old rows until the end, and a rebuild that is
        interrupted never happened. The indexes are made at the end, which is several times as
        fast as keeping them. Inside, each run and each checkpoint may come once only.
        """
        indexes = [
            index
            for table in schema.metadata.sorted_tables
            for index in sorted(table.indexes, key=lambda one: one.name or "")
        ]
        with self._writing() as connection:
            for index in indexes:
                index.drop(connection)
            for table in schema.metadata.sorted_tables:
                if table is not schema.meta:
                    connection.execute(delete(table))
            self._local.rebuilding = True
            try:
                yield
            finally:
                self._local.rebuilding = False
            for index in indexes:
                index.create(connection)
            shares.count_unique(connection)
            _gather_statistics(connection)

    def replace_run(self, facts: RunFacts) -> None:
        """Replaces everything that is held of a run, in one transaction."""
        run = facts.run.name
        fresh = self._local.rebuilding
        with self._writing() as connection:
            shares.alone(connection)
            if not fresh:
                _forget(connection, run)
            _PUT_RUN(connection, *run_values(facts.run))
            for start in range(0, len(facts.checkpoints), _BATCH):
                some = facts.checkpoints[start : start + _BATCH]
                # An id that was another run's is this one's now: facts from files win.
                for record in () if fresh else _known_among(connection, some):
                    _drop(connection, record)
                _insert(connection, some)
            shares.hold_all(
                connection,
                run,
                (record.info.shards for record in facts.checkpoints),
                nbytes=sum(record.nbytes for record in facts.checkpoints),
            )
            if not fresh:
                shares.meet_others(connection, run, coming=True)
            self.add_steps(run, facts.steps)
            self.add_decisions(run, facts.decisions)
            self.add_times(run, facts.times)
            named = (record.info.metrics for record in facts.checkpoints)
            _ADD_NAME.many(connection, name_values(run, named))
            for checkpoint_id in facts.pending:
                _MARK_PENDING(connection, checkpoint_id, run)
            filling = secrets.randbits(62)
            _FILL_SYNC(connection, run, facts.journal_nbytes, facts.folder_mtime_ns, filling)

    def forget_run(self, name: str) -> None:
        """Removes everything that is held of a run; one that is not there is no error."""
        with self._writing() as connection:
            shares.alone(connection)
            _forget(connection, name)

    def _change(
        self, checkpoint_id: str, change: Callable[[CheckpointInfo], CheckpointInfo]
    ) -> None:
        table = schema.checkpoints
        # PostgreSQL holds the row until the commit, so that two reports do not undo each other;
        # SQLite has one writer at a time anyhow.
        statement = select(table).where(table.c.id == checkpoint_id).with_for_update()
        with self._writing() as connection:
            row = connection.execute(statement).one_or_none()
            if row is None:
                raise NotFoundError(
                    f"the catalog holds no checkpoint {checkpoint_id!r}",
                    hint="run `holdfast reindex`",
                )
            record = checkpoint_of(row)
            # Nothing that is said of a checkpoint later changes which shards it holds.
            _put(connection, record, replace(record, info=change(record.info)))


def _put(connection: Connection, before: CheckpointRecord | None, record: CheckpointRecord) -> None:
    """Writes a checkpoint, and of what belongs to it what is another than before."""
    info = record.info
    known = before.info if before else None
    _PUT_CHECKPOINT(connection, *checkpoint_values(record))
    if known is None or _ranked(known) != _ranked(info):
        if known is not None:
            _DROP_SCORES(connection, info.id)
        _PUT_SCORE.many(connection, score_values(info))
        _ADD_NAME.many(connection, name_values(info.run, [info.metrics]))
    if known is None or _tagged(known) != _tagged(info):
        if known is not None:
            _DROP_TAGS(connection, info.id)
        _PUT_TAG.many(connection, tag_values(info))
    _share(connection, before, record)


def _drop(connection: Connection, record: CheckpointRecord) -> None:
    for statement in (_DROP_SCORES, _DROP_TAGS, _DROP_CHECKPOINT):
        statement(connection, record.info.id)
    _share(connection, record, None)


def _share(
    connection: Connection, before: CheckpointRecord | None, after: CheckpointRecord | None
) -> None:
    """Notes which shards a checkpoint holds now, and which no longer."""
    changes = shares.Changes()
    for one, sign in ((before, -1), (after, 1)):
        if one is not None:
            changes.count(one.info.run, checkpoints=sign, nbytes=sign * one.nbytes)
    was = {(before.info.run, shard) for shard in before.info.shards} if before else set()
    now = {(after.info.run, shard) for shard in after.info.shards} if after else set()
    if after is not None:
        sizes = after.info.shards
        coming = {shard: sizes[shard] for shard in sizes if (after.info.run, shard) not in was}
        shares.hold(connection, after.info.run, coming, changes)
    if before is not None:
        going = [shard for run, shard in sorted(was - now)]
        shares.release(connection, before.info.run, going, changes)
    changes.write(connection)


def _insert(connection: Connection, records: Sequence[CheckpointRecord]) -> None:
    """Writes checkpoints that are not there, but for what shards they hold."""
    infos = [record.info for record in records]
    _ADD_CHECKPOINT.many(connection, map(checkpoint_values, records))
    _ADD_SCORE.many(connection, (row for info in infos for row in score_values(info)))
    _ADD_TAG.many(connection, (row for info in infos for row in tag_values(info)))


def _gather_statistics(connection: Connection) -> None:
    """Tells PostgreSQL what it chooses its ways by: it comes to that by itself minutes later.

    SQLite goes by the order of the indexes alone.
    """
    schemas = connection.get_execution_options().get("schema_translate_map")
    if connection.dialect.name == "postgresql" and schemas:
        for table in schema.metadata.sorted_tables:
            connection.exec_driver_sql(f"ANALYZE {schemas[None]}.{table.name}")


def _forget(connection: Connection, run: str) -> None:
    for table, owner in schema.OF_RUN:
        connection.execute(delete(table).where(owner == run))
    shares.forget(connection, run)


def _known(connection: Connection, checkpoint_id: str) -> CheckpointRecord | None:
    row = _FIND.row(connection, checkpoint_id)
    return None if row is None else checkpoint_of(row)


def _known_among(
    connection: Connection, records: Sequence[CheckpointRecord]
) -> list[CheckpointRecord]:
    table = schema.checkpoints
    found: list[CheckpointRecord] = []
    for some in in_batches([record.info.id for record in records]):
        rows = connection.execute(select(table).where(table.c.id.in_(some))).all()
        found += map(checkpoint_of, rows)
    return found


def _ranked(info: CheckpointInfo) -> tuple[object, ...]:
    return info.run, info.created_at, rankable(info), info.metrics


def _tagged(info: CheckpointInfo) -> tuple[object, ...]:
    return info.run, info.created_at, info.tags


# -- statements --------------------------------------------------------------------------------

_ID: BindParameter[str] = bindparam("checkpoint")

_PUT_RUN = inserting(schema.runs, "update")
_PUT_CHECKPOINT = inserting(schema.checkpoints, "update")
_PUT_SCORE = inserting(schema.scores, "update")
_PUT_TAG = inserting(schema.tags, "update")
_ADD_CHECKPOINT = inserting(schema.checkpoints)
_ADD_SCORE = inserting(schema.scores)
_ADD_TAG = inserting(schema.tags)
_ADD_STEP = inserting(schema.steps)
_ADD_DECISION = inserting(schema.decisions)
_ADD_TIMES = inserting(schema.times)
_ADD_NAME = inserting(schema.metric_names, "ignore")
_MARK_PENDING = inserting(schema.pending, "update")
_FILL_SYNC = inserting(schema.sync, "update")
_SET_SYNC = inserting(schema.sync, "update", but=("filling",))
_FIND = Prepared(
    lambda _: select(schema.checkpoints).where(schema.checkpoints.c.id == _ID), "checkpoint"
)
_DROP_CHECKPOINT = Prepared(
    lambda _: delete(schema.checkpoints).where(schema.checkpoints.c.id == _ID), "checkpoint"
)
_DROP_SCORES = Prepared(
    lambda _: delete(schema.scores).where(schema.scores.c.checkpoint == _ID), "checkpoint"
)
_DROP_TAGS = Prepared(
    lambda _: delete(schema.tags).where(schema.tags.c.checkpoint == _ID), "checkpoint"
)
_CLEAR_PENDING = Prepared(
    lambda _: delete(schema.pending).where(schema.pending.c.checkpoint == _ID), "checkpoint"
)
