"""The checkpoints of a run, held in memory and kept up with what is said of them."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.lifecycle.history import RunHistory
from holdfast.lifecycle.place import Place
from holdfast.lifecycle.reindex import gather, refresh_run
from holdfast.model import CheckpointInfo, CheckpointRecord

_log = logging.getLogger("holdfast")

#: Up to so many are looked up one by one, whatever the number of all.
_FEW = 100


@dataclass(frozen=True, slots=True)
class News:
    """What changed among the checkpoints of a run since it was asked last.

    Attributes:
        anew: Whether all of them were read again: then `learnt` are all, and others are gone.
        learnt: Those that are new, or of which something is new.
        gone: Ids of those that are there no longer.
    """

    anew: bool
    learnt: tuple[CheckpointInfo, ...]
    gone: tuple[str, ...]


class KnownCheckpoints:
    """What the catalog and the journal know of a run's checkpoints, without reading it all again.

    Every change of a checkpoint leaves a line in the run's journal, whoever makes it, before it
    comes into the catalog. So only the checkpoints that new lines name are looked up again; all of
    them are when the catalog lagged behind the journal, or when all its rows were written anew.

    Args:
        place: The store, open for writing.
        run: The run.
        history: What its journal says; nobody else takes its news.
    """

    def __init__(self, place: Place, run: str, history: RunHistory) -> None:
        self._place = place
        self._run = run
        self._history = history
        self._filling: int | None = None
        self._by_id: dict[str, CheckpointInfo] = {}
        # In the order of time, beside each other.
        self._keys: list[tuple[float, str]] = []
        self._infos: list[CheckpointInfo] = []
        self._awaited: set[str] = set()

    def catch_up(self, *, lags: bool) -> bool:
        """Brings the catalog up to date where it lags; returns False where it takes no write.

        Args:
            lags: As for `refresh`.

        Raises:
            HoldfastError: The journal or the catalog cannot be read.
        """
        self._history.refresh()
        return self._up_to_date(lags)

    def infos(self) -> tuple[CheckpointInfo, ...]:
        """Returns the checkpoints as of the last `refresh`, oldest first."""
        return tuple(self._infos)

    def refresh(self, *, lags: bool = False) -> News:
        """Takes in what was said and done since, by any process, and returns what changed.

        Args:
            lags: Whether the catalog is known to miss something: a write to it failed.

        Raises:
            HoldfastError: The journal or the catalog cannot be read.
        """
        self._history.refresh()
        if not self._up_to_date(lags):
            # No room for the catalog, most likely, and it is the clean-up that makes room. What
            # the catalog lags behind must not be judged by: it may list what is gone.
            self._filling = None
            self._history.take_news()
            return self._read_all(gather(self._place, self._run).checkpoints, None)
        state = self._place.catalog.sync_state(self._run)
        # A catalog that takes no write answers anew each time.
        filling = -1 if state is None else state.filling
        named = self._history.take_news() | self._awaited
        if filling != self._filling or len(named) > max(_FEW, len(self._infos) // 2):
            records = self._place.catalog.checkpoints(self._run, order_by="created_at")
            return self._read_all(records, None if filling == -1 else filling)
        try:
            return self._look_up(named)
        except BaseException:
            # What was taken must not be lost with the error.
            self._filling = None
            raise

    def _up_to_date(self, lags: bool) -> bool:
        """Brings the catalog up where it lags; returns False where it takes no write."""
        state = self._place.catalog.sync_state(self._run)
        if not lags and state is not None and state.journal_nbytes >= self._history.nbytes:
            return True
        healed = refresh_run(self._place, self._run)
        if healed:
            _log.info("the catalog was behind on %s: brought up to date", self._run)
        return healed

    def _read_all(self, records: Sequence[CheckpointRecord], filling: int | None) -> News:
        self._infos = [self._history.overlay(record.info) for record in records]
        self._keys = [(info.created_at, info.id) for info in self._infos]
        gone = tuple(self._by_id.keys() - {info.id for info in self._infos})
        self._by_id = {info.id: info for info in self._infos}
        pending = (i for run, i in self._place.catalog.pending() if run == self._run)
        self._awaited = {i for i in pending if self._is_awaited(i)}
        self._filling = filling
        return News(True, tuple(self._infos), gone)

    def _look_up(self, named: set[str]) -> News:
        learnt: list[CheckpointInfo] = []
        gone: list[str] = []
        self._awaited = set()
        for checkpoint_id in sorted(named):
            record = self._place.catalog.get(checkpoint_id)
            before = self._by_id.get(checkpoint_id)
            if record is None or record.info.run != self._run:
                if self._is_awaited(checkpoint_id):
                    self._awaited.add(checkpoint_id)
                if before is not None:
                    self._drop(before)
                    gone.append(checkpoint_id)
                continue
            info = self._history.overlay(record.info)
            if info != before:
                if before is not None:
                    self._drop(before)
                self._add(info)
                learnt.append(info)
        return News(False, tuple(learnt), tuple(gone))

    def _is_awaited(self, checkpoint_id: str) -> bool:
        """Returns whether a save that was noted may still come into the catalog."""
        note = self._history.saves.get(checkpoint_id)
        unknown = checkpoint_id not in self._by_id
        return note is not None and unknown and not note.failed and not note.deleted

    def _add(self, info: CheckpointInfo) -> None:
        key = (info.created_at, info.id)
        place = bisect_left(self._keys, key)
        self._keys.insert(place, key)
        self._infos.insert(place, info)
        self._by_id[info.id] = info

    def _drop(self, info: CheckpointInfo) -> None:
        place = bisect_left(self._keys, (info.created_at, info.id))
        del self._keys[place], self._infos[place], self._by_id[info.id]
