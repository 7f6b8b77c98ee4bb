"""Reading checkpoints in full, and saying what is wrong with them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from holdfast.catalog import Catalog
from holdfast.engine import names, reader
from holdfast.engine.manifest import Manifest
from holdfast.errors import HoldfastError, NotFoundError
from holdfast.lifecycle.history import RunHistory
from holdfast.lifecycle.place import Place

_log = logging.getLogger("holdfast")

#: A checkpoint that is thinned while it is read is read again, but not for ever.
_ATTEMPTS: Final = 4

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Verification:
    """What was read, and what is damaged.

    Attributes:
        checked: Ids of the checkpoints that were read, in the order of reading.
        damaged: Id to one sentence per damaged file or tensor.
        nbytes: Bytes of tensors that were read.
        journals: Run to one sentence per damage of its journal.
        strays: Id to names in its folder that its manifest does not name; no damage.
    """

    checked: tuple[str, ...] = ()
    damaged: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    nbytes: int = 0
    journals: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    strays: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged."""
        return not self.damaged and not self.journals

    @property
    def intact(self) -> tuple[str, ...]:
        """Ids of the checkpoints that were read and are sound."""
        return tuple(i for i in self.checked if i not in self.damaged)

    def as_dict(self) -> dict[str, Any]:
        """Returns it as plain JSON values."""
        return {
            "ok": self.ok,
            "checked": list(self.checked),
            "damaged": {i: list(why) for i, why in self.damaged.items()},
            "nbytes": self.nbytes,
            "journals": {run: list(why) for run, why in self.journals.items()},
            "strays": {i: list(files) for i, files in self.strays.items()},
        }


@dataclass(slots=True)
class _Tally:
    """A verification under way."""

    checked: list[str] = field(default_factory=list)
    damaged: dict[str, tuple[str, ...]] = field(default_factory=dict)
    nbytes: int = 0
    journals: dict[str, tuple[str, ...]] = field(default_factory=dict)
    strays: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def result(self) -> Verification:
        return Verification(
            tuple(self.checked), self.damaged, self.nbytes, self.journals, self.strays
        )


def verify(place: Place, target: str | None, *, progress: Progress | None = None) -> Verification:
    """Reads checkpoints in full and compares every digest.

    Where the place is writable, what is found is noted, when it is news: in the run's journal as
    ``damaged`` or ``healthy``, and in the catalog.

    Args:
        place: The store.
        target: A run's name or a checkpoint's id; None for the whole store.
        progress: Called with bytes of tensors as they are read; `total_nbytes` says how many.

    Raises:
        NotFoundError: There is no such checkpoint or run.
    """
    report = progress or _ignore
    tally = _Tally()

    def count(nbytes: int) -> None:
        tally.nbytes += nbytes
        report(nbytes)

    runs, only = _scope(place, target)
    for run in runs:
        history = RunHistory(place.journal(run)).refresh()
        _verify_run(place, run, history, tally, only=only, progress=count)
    if only is not None and not tally.checked:
        raise NotFoundError(
            f"there is no checkpoint {only!r}", hint="`holdfast ls` lists what there is"
        )
    return tally.result()


def total_nbytes(place: Place, target: str | None) -> int:
    """Returns the bytes that `verify` is going to read, for a progress bar to have an end."""
    runs, only = _scope(place, target)
    records = place.catalog.checkpoints(runs[0] if target is not None and runs else None)
    return sum(record.nbytes for record in records if only in (None, record.info.id))


def _scope(place: Place, target: str | None) -> tuple[list[str], str | None]:
    """Returns the runs to look at, and the one checkpoint, where it is one."""
    known = place.run_names()
    if target is None:
        return known, None
    if target in known:
        return [target], None
    if names.is_id(target):
        return [names.run_of_id(target)], target
    raise NotFoundError(
        f"{place.label} has no run and no checkpoint {target!r}",
        hint="`holdfast runs` lists what there is",
    )


def _verify_run(
    place: Place,
    run: str,
    history: RunHistory,
    tally: _Tally,
    *,
    only: str | None,
    progress: Progress,
) -> None:
    journal = list(history.damage)
    relied_on = 0
    for checkpoint_id in _to_check(place, run, only):
        found = inspect(place, run, checkpoint_id, progress=progress)
        if found is None:
            if not is_lost(place, run, checkpoint_id, history):
                continue
            folder = names.folder_of_checkpoint(run, checkpoint_id)
            found = Inspection(None, (f"{folder}/{names.MANIFEST} is missing",), ())
        tally.checked.append(checkpoint_id)
        if found.damage:
            tally.damaged[checkpoint_id] = found.damage
        if found.strays:
            tally.strays[checkpoint_id] = found.strays
        if found.manifest is not None:
            relied_on = max(relied_on, found.manifest.journal_nbytes)
        note(place, run, checkpoint_id, found.damage, history)
    length = place.journal(run).nbytes
    if length < relied_on:
        journal.append(
            f"{place.journal(run).path} has {length} bytes, a checkpoint relies on {relied_on}: "
            "it was cut"
        )
    if journal:
        tally.journals[run] = tuple(journal)


def _to_check(place: Place, run: str, only: str | None) -> list[str]:
    if only is not None:
        return [only]
    return sorted({*place.checkpoint_ids(run), *place.catalog.ids(run)})


def is_lost(place: Place, run: str, checkpoint_id: str, history: RunHistory) -> bool:
    """Returns whether a checkpoint without a manifest existed and was never deleted.

    The catalog is told of a checkpoint after its manifest, and the journal of a deletion before.
    """
    if place.catalog.get(checkpoint_id) is None and checkpoint_id not in history.damaged:
        return False
    # Looked for again: it may have been saved since its manifest was not found. And before the
    # journal is read: what is deleted after that was announced there.
    if place.has_manifest(run, checkpoint_id):
        return False
    said = history.refresh().saves.get(checkpoint_id)
    return said is None or not (said.deleted or said.failed)


# -- one checkpoint ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found of one checkpoint.

    Attributes:
        manifest: Its manifest; None where that cannot be read.
        damage: One sentence per damaged file or tensor.
        strays: Names in its folder that the manifest does not name.
    """

    manifest: Manifest | None
    damage: tuple[str, ...]
    strays: tuple[str, ...]


def inspect(place: Place, run: str, checkpoint_id: str, *, progress: Progress) -> Inspection | None:
    """Reads one checkpoint in full; None where it does not exist (any more).

    Another process may thin or delete it meanwhile: then it is looked at again.
    """
    for _ in range(_ATTEMPTS):
        try:
            manifest = place.manifest(checkpoint_id)
        except NotFoundError:
            return None
        except HoldfastError as error:
            return Inspection(None, (error.message,), ())
        damage = tuple(_damage(place, manifest, progress))
        if damage and _generation(place, checkpoint_id) != manifest.generation:
            continue
        return Inspection(manifest, damage, strays_of(place, manifest))
    _log.warning("%s of %s changed each time it was read: left out", checkpoint_id, run)
    return None


def _damage(place: Place, manifest: Manifest, progress: Progress) -> Iterator[str]:
    try:
        for error in reader.verify(place.storage, manifest, progress=progress):
            yield error.message
    except OSError as error:
        yield f"{manifest.folder} cannot be read: {error.strerror or error}"


def _generation(place: Place, checkpoint_id: str) -> int | None:
    try:
        return place.manifest(checkpoint_id).generation
    except HoldfastError:
        return None


def strays_of(place: Place, manifest: Manifest) -> tuple[str, ...]:
    """Returns names in a checkpoint's folder that its manifest does not name."""
    named = {names.MANIFEST, *(file for item in manifest.items.values() for file in item.files)}
    return tuple(name for name in place.storage.names(manifest.folder) if name not in named)


# -- noting it ---------------------------------------------------------------------------------


def note(
    place: Place, run: str, checkpoint_id: str, damage: Iterable[str], history: RunHistory
) -> None:
    """Notes in journal and catalog that a checkpoint is damaged or sound, when it is news."""
    reason = "; ".join(damage)
    known = place.catalog.get(checkpoint_id)
    in_journal = checkpoint_id in history.damaged
    in_catalog = known is not None and known.info.damaged
    if not place.writable or (in_journal == bool(reason) and in_catalog == bool(reason)):
        return

    def index(catalog: Catalog) -> None:
        if known is not None:
            catalog.set_damaged(checkpoint_id, bool(reason))

    if in_journal == bool(reason):
        place.index(index)
        return
    line = {
        "t": "damaged" if reason else "healthy",
        "at": time.time(),
        "id": checkpoint_id,
        "reason": reason or "read in full, and every digest matched",
    }
    try:
        place.append(run, [line], durable=True, index=index)
        history.refresh()
    except HoldfastError as error:
        # Finding damage must not fail for a full disk: what was found is returned all the same.
        _log.warning("what was found of %s could not be noted: %s", checkpoint_id, error)


def _ignore(_: int) -> None:
    pass
