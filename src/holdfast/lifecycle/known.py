"""The checkpoints of a run, held in memory and kept up with what is said of them."""

from __future__ import annotations

import logging
from bisect import bisect_left
from dataclasses import dataclass

from holdfast.lifecycle.history import RunHistory
from holdfast.lifecycle.place import Place
from holdfast.lifecycle.reindex import refresh_run
from holdfast.model import CheckpointInfo

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

    def infos(self) -> tuple[CheckpointInfo, ...]:
        """Returns the checkpoints as of the last `refresh`, oldest first."""
        return tuple(self._infos)

    def refresh(self) -> News:
        """Takes in what was said and done since, by any process, and returns what changed.

        Raises:
            HoldfastError: The journal or the catalog cannot be read.
        """
        self._history.refresh()
        filling = self._up_to_date()
        named = self._history.take_news() | self._awaited
        if filling != self._filling or len(named) > max(_FEW, len(self._infos) // 2):
            return self._read_all(filling)
        try:
            return self._look_up(named)
        except BaseException:
            # What was taken must not be lost with the error.
            self._filling = None
            raise

    def _up_to_date(self) -> int:
        """Returns which filling of the catalog's rows stands, after bringing up what lags."""
        state = self._place.catalog.sync_state(self._run)
        if state is None or state.journal_nbytes < self._history.nbytes:
            _log.info("the catalog was behind on %s: brought up to date", self._run)
            refresh_run(self._place, self._run)
            state = self._place.catalog.sync_state(self._run)
        # A catalog that takes no write answers anew each time.
        return -1 if state is None else state.filling

    def _read_all(self, filling: int) -> News:
        records = self._place.catalog.checkpoints(self._run, order_by="created_at")
        self._infos = [self._history.overlay(record.info) for record in records]
        self._keys = [(info.created_at, info.id) for info in self._infos]
        gone = tuple(self._by_id.keys() - {info.id for info in self._infos})
        self._by_id = {info.id: info for info in self._infos}
        pending = (i for run, i in self._place.catalog.pending() if run == self._run)
        self._awaited = {i for i in pending if self._is_awaited(i)}
        self._filling = None if filling == -1 else filling
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
