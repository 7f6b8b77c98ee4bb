"""What the catalog is told. Each call is one transaction, or part of an open one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Table, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from holdfast.catalog import schema
from holdfast.catalog.pages import in_batches
from holdfast.catalog.rows import (
    Values,
    checkpoint_of,
    checkpoint_values,
    decision_values,
    holding_values,
    name_values,
    run_values,
    score_values,
    step_values,
    tag_values,
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
    StepRow,
)

#: Rows in one statement of a rebuild: enough to be fast, and bounded memory.
_BATCH = 5000
_MANY = 50


class Writes(Session):
    """Writes of facts that manifests and journals already hold.

    All of them raise `ConfigError` where the catalog is open for reading only, `LockedError` for
    one that stays locked, `IntegrityError` for a damaged one, `StorageFullError` without room.
    """

    def put_run(self, run: RunInfo) -> None:
        """Records a run, or records it anew; its checkpoints and steps stay."""
        with self._writing() as connection:
            _upsert(connection, schema.runs, [run_values(run)])

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
            _forget_details(connection, record.info.id)
            _upsert(connection, schema.checkpoints, [checkpoint_values(record)])
            _insert_details(connection, [record.info])
            _add_names(connection, record.info.run, [record.info.metrics])

    def drop_checkpoint(self, checkpoint_id: str) -> None:
        """Removes a checkpoint; one that is not there is no error. Its decisions stay."""
        with self._writing() as connection:
            _forget_details(connection, checkpoint_id)
            connection.execute(
                delete(schema.checkpoints).where(schema.checkpoints.c.id == checkpoint_id)
            )

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
            _insert(connection, schema.steps, [step_values(run, row) for row in recorded])
            _add_names(connection, run, [row.metrics for row in recorded])

    def add_decisions(self, run: str, decisions: Iterable[Decision]) -> None:
        """Appends decisions to a run's, in the order given."""
        with self._writing() as connection:
            _insert(connection, schema.decisions, [decision_values(run, one) for one in decisions])

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
            _upsert(connection, schema.pending, [{"run": run, "checkpoint": checkpoint_id}])

    def clear_pending(self, checkpoint_id: str) -> None:
        """Settles an announcement; one that is not there is no error."""
        with self._writing() as connection:
            connection.execute(
                delete(schema.pending).where(schema.pending.c.checkpoint == checkpoint_id)
            )

    def set_sync(self, run: str, *, journal_nbytes: int, folder_mtime_ns: int) -> None:
        """Records how far the catalog has followed a run's journal and folder."""
        row = {
            "run": run,
            "journal_nbytes": journal_nbytes,
            "folder_mtime_ns": folder_mtime_ns,
        }
        with self._writing() as connection:
            _upsert(connection, schema.sync, [row])

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

    def replace_run(self, facts: RunFacts) -> None:
        """Replaces everything that is held of a run, in one transaction."""
        run = facts.run.name
        fresh = self._local.rebuilding
        with self._writing() as connection:
            if not fresh:
                _forget(connection, run)
            _insert(connection, schema.runs, [run_values(facts.run)])
            for start in range(0, len(facts.checkpoints), _BATCH):
                some = facts.checkpoints[start : start + _BATCH]
                # An id that was another run's is this one's now: facts from files win.
                for known in () if fresh else _known(connection, [one.info.id for one in some]):
                    self.drop_checkpoint(known)
                _insert(connection, schema.checkpoints, [checkpoint_values(one) for one in some])
                _insert_details(connection, [one.info for one in some])
            for start in range(0, len(facts.steps), _BATCH):
                rows = facts.steps[start : start + _BATCH]
                _insert(connection, schema.steps, [step_values(run, row) for row in rows])
            _insert(
                connection, schema.decisions, [decision_values(run, one) for one in facts.decisions]
            )
            named = [row.metrics for row in facts.steps]
            named += [record.info.metrics for record in facts.checkpoints]
            _insert(connection, schema.metric_names, name_values(run, named))
            self.set_sync(
                run,
                journal_nbytes=facts.journal_nbytes,
                folder_mtime_ns=facts.folder_mtime_ns,
            )

    def forget_run(self, name: str) -> None:
        """Removes everything that is held of a run; one that is not there is no error."""
        with self._writing() as connection:
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
            self.put_checkpoint(replace(record, info=change(record.info)))


def _upsert(connection: Connection, table: Table, rows: list[Values]) -> None:
    statement = _dialect_insert(connection, table)
    keys = [column.name for column in table.primary_key]
    changed = {
        column.name: statement.excluded[column.name]
        for column in table.columns
        if column.name not in keys
    }
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed), rows)


def _dialect_insert(connection: Connection, table: Table) -> Any:
    # The two dialects spell "insert or update" alike, in two classes without a common one.
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def _insert(connection: Connection, table: Table, rows: list[Values]) -> None:
    if not rows:
        return
    if connection.dialect.name != "sqlite" or len(rows) < _MANY:
        connection.execute(insert(table), rows)
        return
    # Handing tuples straight to the driver halves the time of a rebuild; our column types need
    # no conversion in SQLite.
    names = [column.name for column in table.columns if column.name in rows[0]]
    statement = insert(table).inline().compile(dialect=connection.dialect, column_keys=names)
    connection.exec_driver_sql(str(statement), list(map(itemgetter(*names), rows)))


def _insert_details(connection: Connection, infos: Sequence[CheckpointInfo]) -> None:
    for table, values in (
        (schema.scores, score_values),
        (schema.tags, tag_values),
        (schema.holdings, holding_values),
    ):
        _insert(connection, table, [row for info in infos for row in values(info)])


def _forget_details(connection: Connection, checkpoint_id: str) -> None:
    for table in (schema.scores, schema.tags):
        connection.execute(delete(table).where(table.c.checkpoint == checkpoint_id))
    # Holdings are in the order of runs: the run leads to them, as it was recorded.
    rows = schema.checkpoints.c
    run = select(rows.run).where(rows.id == checkpoint_id).scalar_subquery()
    held = schema.holdings.c
    connection.execute(
        delete(schema.holdings).where(held.run == run, held.checkpoint == checkpoint_id)
    )


def _forget(connection: Connection, run: str) -> None:
    for table, owner in schema.OF_RUN:
        connection.execute(delete(table).where(owner == run))


def _known(connection: Connection, ids: Sequence[str]) -> list[str]:
    table = schema.checkpoints.c
    found: list[str] = []
    for some in in_batches(ids):
        found += connection.execute(select(table.id).where(table.id.in_(some))).scalars()
    return found


def _add_names(connection: Connection, run: str, metrics: Sequence[Metrics]) -> None:
    rows = name_values(run, metrics)
    if rows:
        statement = _dialect_insert(connection, schema.metric_names).on_conflict_do_nothing()
        connection.execute(statement, rows)
