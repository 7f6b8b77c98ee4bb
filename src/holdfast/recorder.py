"""What a run writes to its journal step by step, kept out of the training thread's way."""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from holdfast.catalog import Catalog
from holdfast.engine.journal import Record
from holdfast.engine.sealed import encode_numbers
from holdfast.errors import HoldfastError, NotFoundError
from holdfast.lifecycle.place import Place
from holdfast.model import SaveTimes, StepRow

_log = logging.getLogger("holdfast")

#: One line of the journal and one write to the catalog take so many rows and values at most: what
#: is turned into text at a time holds up other threads.
_ROWS: Final = 256
_VALUES: Final = 2000


#: Step, time, epoch, metrics, whether it was saved, and why: as a line of the journal has them.
_Queued = tuple[int, float, int | None, dict[str, float], bool, str]


class StepRecorder:
    """Queues rows of `Run.step` and writes them out in batches.

    Args:
        place: The store.
        run: The run.
    """

    def __init__(self, place: Place, run: str) -> None:
        self._place = place
        self._run = run
        # As tuples: these are no matter for the garbage collector, which looks at all objects that
        # it knows, for tens of milliseconds, whenever many have come to stay.
        self._rows: deque[_Queued] = deque()
        self._reports: list[tuple[str, Mapping[str, float]]] = []
        self._times: list[SaveTimes] = []
        self._lock = threading.Lock()
        self._failing = False

    def add(self, row: StepRow) -> None:
        """Queues a row; no I/O."""
        # A copy without what may lie around it: a plain dict of numbers.
        metrics = dict(row.metrics)
        self._rows.append((row.step, row.at, row.epoch, metrics, row.saved, row.reason))

    def report(self, checkpoint_id: str, metrics: Mapping[str, float]) -> None:
        """Queues further metrics of a checkpoint that may still be on its way; no I/O."""
        self._reports.append((checkpoint_id, metrics))

    def took(self, times: SaveTimes) -> None:
        """Queues how long a save took; no I/O."""
        self._times.append(times)

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

    def flush(
        self,
        *records: Record,
        durable: bool = False,
        index: Callable[[Catalog], object] | None = None,
    ) -> int:
        """Writes what is queued, then further records.

        Args:
            *records: Written behind what is queued, in the same append.
            durable: Whether all of it is on the medium on return.
            index: Puts the further records into the catalog.

        Returns:
            The journal's length in bytes; 0 where there was nothing to write.

        Raises:
            SaveError, StorageFullError: The medium failed; what was queued stays queued.
        """
        with self._lock:
            while True:
                rows = self._piece()
                last = len(rows) == len(self._rows)
                reports = self._reports[:] if last else []
                times = self._times[:] if last else []
                batch = [*_lines(rows, reports, times), *(records if last else ())]
                if not batch:
                    return 0
                nbytes = self._place.append(
                    self._run,
                    batch,
                    durable=durable and last,
                    index=self._telling(rows, reports, times, index if last else None),
                )
                # More may have been queued meanwhile, behind these.
                for _ in rows:
                    self._rows.popleft()
                del self._reports[: len(reports)]
                del self._times[: len(times)]
                if last:
                    return nbytes

    def _piece(self) -> list[_Queued]:
        """Returns the first queued rows, as many as are written at a time."""
        piece: list[_Queued] = []
        values = 0
        for row in itertools.islice(self._rows, _ROWS):
            piece.append(row)
            values += len(row[3])
            if values >= _VALUES:
                break
        return piece

    def _telling(
        self,
        rows: list[_Queued],
        reports: list[tuple[str, Mapping[str, float]]],
        times: list[SaveTimes],
        index: Callable[[Catalog], object] | None,
    ) -> Callable[[Catalog], object]:
        def tell(catalog: Catalog) -> None:
            if rows:
                catalog.add_steps(
                    self._run, (StepRow(s, at, m, e, k, w) for s, at, e, m, k, w in rows)
                )
            for checkpoint_id, metrics in reports:
                # One still on its way gets them from the journal when it is catalogued.
                with contextlib.suppress(NotFoundError):
                    catalog.report(checkpoint_id, metrics)
            if times:
                catalog.add_times(self._run, times)
            if index is not None:
                index(catalog)

        return tell


def _row(queued: _Queued) -> StepRow:
    step, at, epoch, metrics, saved, reason = queued
    return StepRow(step, at, metrics, epoch, saved, reason)


def _lines(
    rows: list[_Queued],
    reports: list[tuple[str, Mapping[str, float]]],
    times: list[SaveTimes],
) -> list[Record]:
    lines: list[Record] = []
    if rows:
        lines.append({"t": "steps", "at": rows[-1][1], "rows": rows})
    lines.extend(
        {"t": "report", "id": checkpoint_id, "metrics": encode_numbers(metrics)}
        for checkpoint_id, metrics in reports
    )
    if times:
        took = [(one.checkpoint_id, one.step, one.at, one.stall_s, one.write_s) for one in times]
        lines.append({"t": "took", "at": times[-1].at, "rows": took})
    return lines
