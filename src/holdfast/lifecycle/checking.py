"""Reading one checkpoint in full, saying what is wrong with it, and noting that."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from holdfast.catalog import Catalog
from holdfast.engine import names
from holdfast.engine.manifest import Manifest
from holdfast.errors import HoldfastError, NotFoundError
from holdfast.lifecycle.history import RunHistory
from holdfast.lifecycle.place import Place
from holdfast.lifecycle.readonce import ShardReader, is_damage
from holdfast.lifecycle.withdrawing import withdraw

_log = logging.getLogger("holdfast")

#: A checkpoint that is thinned while it is read is read again, but not for ever.
_ATTEMPTS: Final = 4

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found of one checkpoint.

    Attributes:
        manifest: Its manifest; None where that cannot be read.
        damage: One sentence per damaged file or tensor.
        strays: Names in its folder that the manifest does not name.
        paths: The damaged files, relative to the store.
        unread: One sentence per file that could not be opened now, and may be sound.
    """

    manifest: Manifest | None
    damage: tuple[str, ...]
    strays: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


def inspect(
    place: Place,
    run: str,
    checkpoint_id: str,
    *,
    progress: Progress,
    shards: ShardReader | None = None,
    first: Manifest | None = None,
) -> Inspection | None:
    """Reads one checkpoint in full; None where it does not exist (any more).

    Another process may thin or delete it meanwhile: then it is looked at again.

    Args:
        place: The store.
        run: The checkpoint's run.
        checkpoint_id: The checkpoint.
        progress: Called with bytes as they are read.
        shards: What reads its shards, and knows some of them already; left out, a fresh one.
        first: Its manifest, where it was read a moment ago.
    """
    shards = shards or ShardReader(place.storage, progress=progress)
    for _ in range(_ATTEMPTS):
        try:
            manifest, first = first or place.manifest(checkpoint_id), None
        except NotFoundError:
            return None
        except HoldfastError as error:
            if is_damage(error):
                return Inspection(None, (error.message,))
            return Inspection(None, (), unread=(error.message,))
        errors, unread = _read(manifest, shards)
        if (errors or unread) and _generation(place, checkpoint_id) != manifest.generation:
            continue
        return Inspection(
            manifest,
            tuple(error.message for error in errors),
            strays_of(place, manifest),
            tuple({str(getattr(error, "path", "")) for error in errors} - {""}),
            tuple(unread),
        )
    _log.warning("%s of %s changed each time it was read: left out", checkpoint_id, run)
    return None


def _read(manifest: Manifest, shards: ShardReader) -> tuple[list[HoldfastError], list[str]]:
    damage: list[HoldfastError] = []
    unread: list[str] = []
    try:
        for error in shards.errors(manifest):
            if is_damage(error):
                damage.append(error)
            else:
                unread.append(error.message)
    except OSError as error:
        unread.append(f"{manifest.folder} cannot be read: {error.strerror or error}")
    return damage, unread


def _generation(place: Place, checkpoint_id: str) -> int | None:
    try:
        return place.manifest(checkpoint_id).generation
    except HoldfastError:
        return None


def strays_of(place: Place, manifest: Manifest) -> tuple[str, ...]:
    """Returns names in a checkpoint's folder that its manifest does not name."""
    named = {names.MANIFEST, *(file for item in manifest.items.values() for file in item.files)}
    return tuple(name for name in place.storage.names(manifest.folder) if name not in named)


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


# -- noting it ---------------------------------------------------------------------------------


def settle(
    place: Place, run: str, checkpoint_id: str, found: Inspection, history: RunHistory
) -> None:
    """Takes damaged shards out of reach of later saves, and notes what was found."""
    if place.writable and found.paths:
        withdraw(place, run, checkpoint_id, found.paths)
    if found.damage or not found.unread:
        note(place, run, checkpoint_id, found.damage, history)


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
