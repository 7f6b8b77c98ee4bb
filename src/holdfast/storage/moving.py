"""Putting a file aside under another name of its store: out of the way, and not lost."""

from __future__ import annotations

import itertools
import os
from typing import Final

from holdfast.storage.failures import failure_of
from holdfast.storage.local import LocalStorage

QUARANTINE: Final = "quarantine"


def set_aside(storage: LocalStorage, path: str, *, copy: bool = False) -> str:
    """Moves a file into the store's quarantine, durably.

    Args:
        storage: The store's files.
        path: The file.
        copy: Leave its name where it is, too: what replaces it is about to be published there.

    Returns:
        Where it is now, relative to the store.

    Raises:
        FileNotFoundError: There is no such file.
        SaveError, StorageFullError: The medium failed; the file is where it was.
    """
    storage.make_folder(QUARANTINE)
    target = _free_name(storage, path)
    if copy:
        _copy(storage, path, target)
    else:
        try:
            storage.posix.rename(storage.absolute(path), storage.absolute(target))
        except FileNotFoundError:
            raise
        except OSError as error:
            doing = f"setting {path} aside"
            raise failure_of(
                error, doing, needed=0, free=storage.free_nbytes, root=storage.root
            ) from error
        storage.sync_folder(path.rpartition("/")[0])
    storage.sync_folder(QUARANTINE)
    return target


def _copy(storage: LocalStorage, path: str, target: str) -> None:
    # A medium without hard links gets a second file.
    if not storage.link(path, target):
        storage.publish(target, [storage.read(path)], sync_folder=False)


def _free_name(storage: LocalStorage, path: str) -> str:
    plain = f"{QUARANTINE}/{path.replace('/', '+')}"
    for number in itertools.count(1):
        name = plain if number == 1 else f"{plain}.{number}"
        if not os.path.lexists(storage.absolute(name)):
            return name
    raise AssertionError
