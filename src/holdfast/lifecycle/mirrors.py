"""Mirrors: second places of a store, each a complete store of the same id in a folder."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from holdfast.engine import names
from holdfast.engine.manifest import check_format
from holdfast.engine.sealed import seal, unseal
from holdfast.errors import ConfigError, FormatError, HoldfastError, IntegrityError, SaveError
from holdfast.lifecycle.place import Place
from holdfast.storage import LocalStorage, Posix
from holdfast.storage.local import TEMPORARY_PREFIX

_log = logging.getLogger("holdfast")

_LIMIT: Final = 1 << 20
_FIRST_LINE_NBYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Mirror:
    """A second place of a store; nothing is known of its medium until it is used.

    Attributes:
        storage: Its files; the folder need not be there.
        locks: Run to what passes over that run wait for, within this process.
    """

    storage: LocalStorage
    locks: dict[str, threading.Lock] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """How it is called in messages."""
        return str(self.storage.root)

    def lock(self, run: str) -> threading.Lock:
        """Returns what lets one pass at a time over a run."""
        return self.locks.setdefault(run, threading.Lock())


def mirror_at(root: Path, *, store: Path, posix: Posix | None = None) -> Mirror:
    """Returns the mirror in a folder.

    Args:
        root: The folder.
        store: The store's.
        posix: The system calls that every change of it goes through.

    Raises:
        ConfigError: The folder is the store itself, lies in it, or holds it.
    """
    real, own = (Path(os.path.realpath(path)) for path in (root, store))
    same = real == own or (real.exists() and own.exists() and real.samefile(own))
    if same or real.is_relative_to(own) or own.is_relative_to(real):
        how = "is the store itself" if same else "and the store lie one in the other"
        raise ConfigError(
            f"the mirror {root} {how}",
            hint="name a folder of its own for the mirror, on another disk if there is one",
        )
    if real.exists() and not real.is_dir():
        raise ConfigError(f"the mirror {root} is a file", hint="name a folder for the mirror")
    return Mirror(LocalStorage(root, posix=posix))


def check(mirror: Mirror, store_id: str) -> None:
    """Refuses a folder that is another store; one that cannot be reached now is let pass.

    Raises:
        ConfigError: It is the mirror of another store, or a store of its own.
        FormatError: It was written by a newer Holdfast.
    """
    try:
        found = identity(mirror.storage)
    except (IntegrityError, OSError):
        # Told of when it is used: opening a store does not fail for its mirror's medium.
        return
    if found is not None and store_id and found != store_id:
        raise _another(mirror)


def identity(storage: LocalStorage) -> str | None:
    """Returns the id of the store in a folder; None where there is none.

    Raises:
        IntegrityError, FormatError: Its ``holdfast.json`` is damaged, or of a newer version.
        OSError: The medium does not let it be looked at.
    """
    try:
        data = storage.read(names.STORE_FILE, limit=_LIMIT)
    except FileNotFoundError:
        return None
    members = unseal(data, path=f"{storage.root / names.STORE_FILE}")
    check_format(members, path=f"{storage.root / names.STORE_FILE}")
    store_id = members.get("store_id")
    if not isinstance(store_id, str):
        raise FormatError(f"{storage.root} has no id", hint="move its holdfast.json aside")
    return store_id


def make_ready(place: Place, mirror: Mirror, *, anew: bool) -> None:
    """Sees to it that a mirror is there to be written, making it where there was none before.

    Args:
        place: The store.
        mirror: The mirror.
        anew: Whether to make it even where it was there before and is gone.

    Raises:
        ConfigError: It is another store.
        SaveError, StorageFullError: It cannot be reached or written, or it is gone: an unmounted
            medium leaves an empty folder, and nothing may be copied into that.
    """
    storage = mirror.storage
    try:
        found = identity(storage)
    except IntegrityError:
        found = None
    if found == place.store_id:
        _remember(place, mirror)
        return
    if found is not None:
        raise _another(mirror)
    if storage.names("runs"):
        if not are_akin(place.storage, storage):
            raise ConfigError(
                f"{mirror.label} holds runs and no sound holdfast.json: whose they are is unknown",
                hint="name another folder for the mirror, or move what is there away",
            )
    elif not anew and str(storage.root) in remembered(place.storage):
        raise SaveError(
            f"the mirror {mirror.label} is gone: there is no store any more",
            hint=f"mount its medium; `holdfast mirror --to {mirror.label}` begins it anew",
        )
    _make(place, mirror)


def is_usable(place: Place, mirror: Mirror) -> bool:
    """Returns whether a mirror can be read as one of this store; what hinders it is logged."""
    try:
        found = identity(mirror.storage)
    except (HoldfastError, OSError) as error:
        _log.warning("the mirror %s cannot be used: %s", mirror.label, error)
        return False
    if found is None and mirror.label in remembered(place.storage):
        _log.warning("the mirror %s is not there: is its medium mounted?", mirror.label)
    return found is not None and found == place.store_id


def all_of(place: Place) -> tuple[Mirror, ...]:
    """Returns the mirrors that the store was opened with, and those that it had before."""
    own = {mirror.label for mirror in place.mirrors}
    return (*place.mirrors, *(m for m in mirrors_before(place.storage) if m.label not in own))


def mirrors_before(storage: LocalStorage) -> tuple[Mirror, ...]:
    """Returns all mirrors that a store ever had, as it remembers them."""
    found = []
    for path in remembered(storage):
        try:
            found.append(mirror_at(Path(path), store=storage.root, posix=storage.posix))
        except ConfigError as error:
            # A store that was moved may lie where its mirror was.
            _log.warning("a mirror of earlier is left out: %s", error.message)
    return tuple(found)


def remembered(storage: LocalStorage) -> tuple[str, ...]:
    """Returns the folders of all mirrors that a store ever had, as it remembers them."""
    try:
        members = unseal(storage.read(names.MIRRORS, limit=_LIMIT), path=names.MIRRORS)
    except FileNotFoundError:
        return ()
    except HoldfastError as error:
        _log.warning("which mirrors %s had cannot be told: %s", storage.root, error.message)
        return ()
    listed = members.get("mirrors")
    return tuple(path for path in listed if isinstance(path, str)) if listed else ()


def are_akin(one: LocalStorage, other: LocalStorage) -> bool:
    """Returns whether two folders hold a run of the same beginning.

    The first line of a journal holds a time and a random number: no two stores share one.
    """
    for folder in one.folders("runs"):
        first = _first_line(one, folder)
        if first and first == _first_line(other, folder):
            return True
    return False


def _first_line(storage: LocalStorage, folder: str) -> bytes:
    try:
        with storage.reading(f"runs/{folder}/{names.JOURNAL}") as file:
            data = bytearray(min(file.nbytes, _FIRST_LINE_NBYTES))
            file.read_into(0, memoryview(data))
    except (FileNotFoundError, HoldfastError):
        # No word from it: another run may tell.
        return b""
    line, end, _ = bytes(data).partition(b"\n")
    return line if end else b""


def _make(place: Place, mirror: Mirror) -> None:
    storage = mirror.storage
    parents: Iterable[Path] = (storage.root, *storage.root.parents)
    missing = [folder for folder in parents if not folder.exists()]
    for folder in reversed(missing):
        LocalStorage(folder.parent, posix=storage.posix).make_folder(folder.name)
    for name in ("shards", "runs"):
        storage.make_folder(name)
    try:
        data = place.storage.read(names.STORE_FILE, limit=_LIMIT)
    except FileNotFoundError:
        raise ConfigError(
            f"{place.label} has lost its holdfast.json: it cannot be mirrored",
            hint="open it for writing once, which makes it anew",
        ) from None
    for name in storage.names(""):
        # Of one who died here.
        if name.startswith(f"{TEMPORARY_PREFIX}{names.STORE_FILE}"):
            storage.remove(name)
    storage.publish(names.STORE_FILE, [data])
    # Afterwards: what was never whole cannot have vanished.
    _remember(place, mirror)
    _log.info("a mirror of %s was made at %s", place.label, mirror.label)


def _remember(place: Place, mirror: Mirror) -> None:
    known = remembered(place.storage)
    path = str(mirror.storage.root)
    if path in known or not place.writable:
        return
    members = {"format": 1, "mirrors": [*known, path]}
    try:
        for name in place.storage.names(""):
            # Of one who died here.
            if name.startswith(f"{TEMPORARY_PREFIX}{names.MIRRORS}"):
                place.storage.remove(name)
        place.storage.publish(names.MIRRORS, [seal(members)])
    except HoldfastError as error:
        _log.warning("that %s is a mirror could not be noted: %s", path, error)


def _another(mirror: Mirror) -> ConfigError:
    return ConfigError(
        f"{mirror.label} is another store, not a mirror of this one",
        hint="name an empty folder, or the mirror's own, in mirrors=",
    )
