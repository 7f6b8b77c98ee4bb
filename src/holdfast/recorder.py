"""What a run writes to its journal step by step, kept out of the training thread's way."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Mapping

from holdfast.catalog import Catalog
from holdfast.engine.journal import Record
from holdfast.engine.sealed import encode_numbers
from holdfast.errors import HoldfastError, NotFoundError
from holdfast.lifecycle.place import Place
from holdfast.model import StepRow

_log = logging.getLogger("holdfast")


class StepRecorder:
    """Queues rows of `Run.step` and writes them out in batches.

    Args:
        place: The store.
        run: The run.
    """

    def __init__(self, place: Place, run: str) -> None:
        self._place = place
        self._run = run
        self._rows: list[StepRow] = []
        self._reports: list[tuple[str, Mapping[str, float]]] = []
        self._lock = threading.Lock()
        self._failing = False

    def add(self, row: StepRow) -> None:
        """Queues a row; no I/O."""
        self._rows.append(row)

    def report(self, checkpoint_id: str, metrics: Mapping[str, float]) -> None:
        """Queues further metrics of a checkpoint that may still be on its way; no I/O."""
        self._reports.append((checkpoint_id, metrics))

    def flush_quietly(self) -> None:
        """Writes what is queued; a failure is logged once, and it stays queued."""
        try:
            self.flush()
        except HoldfastError as error:
            if not self._failing:
                _log.error("metrics of %s cannot be written for now: %s", self._run, error)
            self._failing = True
        else:
            self._failing = False

    def flush(self, *records: Record, durable: bool = False) -> int:
        """Writes what is queued, then further records.

        Args:
            *records: Written behind what is queued, in the same append.
            durable: Whether all of it is on the medium on return.

        Returns:
            The journal's length in bytes; 0 where there was nothing to write.

        Raises:
            SaveError, StorageFullError: The medium failed; what was queued stays queued.
        """
        with self._lock:
            rows, reports = self._rows[:], self._reports[:]
            batch = [*_lines(rows, reports), *records]
            if not batch:
                return 0

            def index(catalog: Catalog) -> None:
                catalog.add_steps(self._run, rows)
                for checkpoint_id, metrics in reports:
                    # One still on its way gets them from the journal when it is catalogued.
                    with contextlib.suppress(NotFoundError):
                        catalog.report(checkpoint_id, metrics)

            nbytes = self._place.append(self._run, batch, durable=durable, index=index)
            # More may have been queued meanwhile, behind these.
            del self._rows[: len(rows)]
            del self._reports[: len(reports)]
            return nbytes


def _lines(rows: list[StepRow], reports: list[tuple[str, Mapping[str, float]]]) -> list[Record]:
    lines: list[Record] = []
    if rows:
        columns = [[r.step, r.at, r.epoch, r.metrics, r.saved, r.reason] for r in rows]
        lines.append({"t": "steps", "at": rows[-1].at, "rows": columns})
    lines.extend(
        {"t": "report", "id": checkpoint_id, "metrics": encode_numbers(metrics)}
        for checkpoint_id, metrics in reports
    )
    return lines
