"""A whole store in a mirror: all its runs brought up to date, and a deleted run followed."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from holdfast.engine import names
from holdfast.engine.carrying import Progress
from holdfast.errors import HoldfastError, LockedError, SaveError, StorageFullError
from holdfast.lifecycle.mirroredrun import Mirrored, MirroredRun, sentence_of
from holdfast.lifecycle.mirrors import Mirror, make_ready
from holdfast.lifecycle.place import Place

_log = logging.getLogger("holdfast")


def mirror_runs(
    place: Place, mirror: Mirror, runs: Iterable[str], *, anew: bool, progress: Progress
) -> Mirrored:
    """Brings a mirror up to date in some runs; what cannot be done is told, and the rest is done.

    Args:
        place: The store.
        mirror: The mirror.
        runs: The runs.
        anew: As `make_ready`.
        progress: Called with bytes that are there now, copied or not.

    Raises:
        ConfigError: The folder is another store.
    """
    passes: list[Mirrored] = []
    try:
        make_ready(place, mirror, anew=anew)
        passes += [MirroredRun(place, mirror, run).update(progress=progress) for run in runs]
    except (SaveError, StorageFullError, LockedError) as error:
        passes.append(Mirrored(mirror.label, failures=(str(error),)))
    except OSError as error:
        why = f"{mirror.label} cannot be used: {error.strerror or error}"
        passes.append(Mirrored(mirror.label, failures=(why,)))
    return Mirrored(
        mirror.label,
        copied=tuple(i for one in passes for i in one.copied),
        thinned=tuple(i for one in passes for i in one.thinned),
        deleted=tuple(i for one in passes for i in one.deleted),
        only=tuple(i for one in passes for i in one.only),
        damaged=tuple(i for one in passes for i in one.damaged),
        failures=tuple(i for one in passes for i in one.failures),
        nbytes=sum(one.nbytes for one in passes),
    )


def follow_deletion(place: Place, mirror: Mirror, run: str) -> None:
    """Lets a mirror follow the deletion of a whole run, whose journal is about to go.

    A mirror that cannot be reached keeps the run; that is logged.
    """
    folder = names.folder_of_run(run)
    storage = mirror.storage
    try:
        if not storage.modified_ns(folder):
            return
        make_ready(place, mirror, anew=False)
        found = MirroredRun(place, mirror, run).update()
        if found.problems:
            raise HoldfastError("; ".join(found.problems))
        if set(storage.names(folder)) - {names.LOCK, names.JOURNAL}:
            return
        for name in (names.JOURNAL, names.LOCK):
            storage.remove(f"{folder}/{name}")
        if storage.remove_folder(folder):
            storage.sync_folder("runs")
    except (HoldfastError, OSError) as error:
        _log.warning("the mirror %s keeps the run %s: %s", mirror.label, run, sentence_of(error))
