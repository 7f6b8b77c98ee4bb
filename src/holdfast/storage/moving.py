"""Files that make way: put aside under another name of their store, or replaced as a whole."""

from __future__ import annotations

import itertools
import os
import stat
from typing import Final

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
    # Its new name is durable before the old one goes: at no moment has it none.
    _copy(storage, path, target)
    storage.sync_folder(QUARANTINE)
    if not copy:
        storage.remove(path)
        storage.sync_folder(path.rpartition("/")[0])
    return target


def replace(storage: LocalStorage, path: str, content: bytes) -> None:
    """Puts other bytes in the place of a file that is appended to, durably.

    Its permissions stay: a published file is read-only, and this one is written again. The caller
    keeps others from appending meanwhile.

    Raises:
        SaveError, StorageFullError: The medium failed; the file is as it was.
    """
    mode = stat.S_IMODE(os.stat(storage.absolute(path)).st_mode)
    folder, _, name = path.rpartition("/")
    draft = storage.draft(folder, name, start=0, expected=len(content), mode=mode)
    try:
        draft.append(content)
        storage.publish_draft(draft, path)
    except BaseException:
        draft.discard()
        raise
    storage.sync_folder(folder)


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
