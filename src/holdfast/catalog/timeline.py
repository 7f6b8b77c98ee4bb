"""What the catalog answers about a run's course: steps, metric values, decisions."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, select

from holdfast.catalog.rows import decision_of, step_of, value_of
from holdfast.catalog.schema import decisions, metric_names, steps
from holdfast.catalog.session import Session
from holdfast.model import Decision, StepRow


class Timeline(Session):
    """Look-ups of what happened, in the order in which it was recorded."""

    def steps(self, run: str, *, after: int | None = None) -> list[StepRow]:
        """Returns a run's steps as recorded: two calls for one step are two rows.

        Args:
            run: Name of the run.
            after: Only steps beyond this one; None for all.
        """
        statement = select(steps).where(steps.c.run == run).order_by(steps.c.sequence)
        if after is not None:
            statement = statement.where(steps.c.step > after)
        return self._read(
            lambda connection: [step_of(row) for row in connection.execute(statement)]
        )

    def history(self, run: str, metric: str) -> list[tuple[int, float]]:
        """Returns ``(step, value)`` of a metric as recorded; NaN and infinities as they were."""
        statement: Select[Any] = (
            select(steps.c.step, steps.c.metrics)
            .where(steps.c.run == run)
            .order_by(steps.c.sequence)
        )
        rows = self._read(lambda connection: connection.execute(statement).all())
        found = ((row.step, value_of(row, metric)) for row in rows)
        return [(step, value) for step, value in found if value is not None]

    def metric_names(self, run: str | None = None) -> list[str]:
        """Returns the names of all metrics that a run, or any, has reported; sorted."""
        statement = select(metric_names.c.name).distinct().order_by(metric_names.c.name)
        if run is not None:
            statement = statement.where(metric_names.c.run == run)
        return self._read(lambda connection: list(connection.execute(statement).scalars()))

    def decisions(
        self,
        run: str,
        *,
        checkpoint_id: str | None = None,
        step: int | None = None,
        limit: int | None = None,
    ) -> list[Decision]:
        """Returns decisions on a run's steps and checkpoints as recorded, oldest first.

        Args:
            run: Name of the run.
            checkpoint_id: Only those about this checkpoint.
            step: Only those about this step.
            limit: Only the newest so many.
        """
        statement: Select[Any] = select(decisions).where(decisions.c.run == run)
        if checkpoint_id is not None:
            statement = statement.where(decisions.c.checkpoint == checkpoint_id)
        if step is not None:
            statement = statement.where(decisions.c.step == step)
        # Read from the newest on, so that a limit reads no more than it returns.
        statement = statement.order_by(decisions.c.sequence.desc()).limit(limit)
        rows = self._read(lambda connection: connection.execute(statement).all())
        return [decision_of(row) for row in reversed(rows)]
