"""How sound a store's copies are known to be: what was verified, and how far its mirrors are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from holdfast.engine import names
from holdfast.errors import HoldfastError
from holdfast.lifecycle import mirrors
from holdfast.lifecycle.history import RunHistory
from holdfast.lifecycle.mirrors import Mirror
from holdfast.lifecycle.place import Place
from holdfast.storage import LocalStorage


@dataclass(frozen=True, slots=True)
class Verified:
    """What verifications found of a run's checkpoints.

    Attributes:
        checkpoints: How many there are.
        sound: How many of them were read in full and found sound.
        oldest_at: When the one that was verified longest ago was; None where none was.
        newest_at: When one was verified last; None where none was.
        damaged: Id of a damaged checkpoint to why it is called so.
    """

    checkpoints: int
    sound: int
    oldest_at: float | None
    newest_at: float | None
    damaged: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MirrorState:
    """How far a mirror is.

    Attributes:
        path: Its folder.
        reachable: Whether it is there, and a mirror of this store.
        why: Why it is not; empty where it is.
        missing: How many of the store's checkpoints it lacks.
        checkpoints: How many checkpoints the store has.
    """

    path: str
    reachable: bool
    why: str = ""
    missing: int = 0
    checkpoints: int = 0


def verified(place: Place) -> dict[str, Verified]:
    """Returns what verifications found, by run; each run's journal is read for it."""
    found = {}
    for run in place.catalog.run_names():
        history = RunHistory(place.journal(run)).refresh()
        there = {record.info.id for record in place.catalog.checkpoints(run)}
        times = [at for known, at in history.verified.items() if known in there]
        found[run] = Verified(
            checkpoints=len(there),
            sound=len(times),
            oldest_at=min(times, default=None),
            newest_at=max(times, default=None),
            damaged={known: why for known, why in history.damaged.items() if known in there},
        )
    return found


def mirror_states(place: Place) -> tuple[MirrorState, ...]:
    """Returns how far each mirror is that the store was opened with or had before."""
    return tuple(_state(place, mirror) for mirror in mirrors.all_of(place))


def _state(place: Place, mirror: Mirror) -> MirrorState:
    try:
        found = mirrors.identity(mirror.storage)
        if found is None:
            return MirrorState(mirror.label, False, "nothing is there: is its medium mounted?")
        if found != place.store_id:
            return MirrorState(mirror.label, False, "it is another store")
        missing = total = 0
        for run in place.run_names():
            own = _manifests(place.storage, run)
            total += len(own)
            missing += len(own - _manifests(mirror.storage, run))
    except (HoldfastError, OSError) as error:
        why = error.message if isinstance(error, HoldfastError) else str(error)
        return MirrorState(mirror.label, False, why)
    return MirrorState(mirror.label, True, missing=missing, checkpoints=total)


def _manifests(storage: LocalStorage, run: str) -> set[str]:
    """Returns the ids of a run's checkpoints that are whole in a folder."""
    return {
        name
        for name in storage.folders(names.folder_of_run(run))
        if names.is_id(name)
        and storage.size(f"{names.folder_of_checkpoint(run, name)}/{names.MANIFEST}") is not None
    }
