"""What lies about in a store beside its runs: leftovers, shards of nobody, the catalog's drift."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import partial
from typing import Final

from holdfast.engine import names
from holdfast.engine.sealed import unseal
from holdfast.errors import HoldfastError, IntegrityError
from holdfast.lifecycle.findings import Found
from holdfast.lifecycle.ownership import standing
from holdfast.lifecycle.place import Place
from holdfast.lifecycle.planning import remove_if_empty
from holdfast.storage.local import TEMPORARY_PREFIX

_PROBE: Final = f"{TEMPORARY_PREFIX}probe-"
#: What a damaged file of the store's own is called once it was moved aside.
_SET_ASIDE: Final = re.compile(r"(?:catalog\.sqlite3|holdfast\.json)\.damaged-\d+(?:-\w+)?")


def catalog_is_sound(place: Place, found: Found) -> bool:
    """Reads the catalog once, and returns whether it can be gone by; if not, that is a finding."""
    try:
        for run in place.catalog.run_names():
            place.catalog.run(run)
            place.catalog.checkpoints(run)
    except IntegrityError as error:
        found.act(
            "damaged",
            error.path,
            f"{error.message}; the files hold all of it, and were not looked at for now",
            "move it aside: the next opening makes it anew",
            partial(_move_aside, place, error),
        )
        return False
    return True


def _move_aside(place: Place, error: IntegrityError) -> None:
    """Moves a damaged catalog out of the way, and what stands beside it.

    Raises:
        IntegrityError: The catalog is kept elsewhere.
    """
    if place.storage.size(error.path) is None:
        raise error
    names_there = place.storage.names("")
    number = 1
    while f"{error.path}.damaged-{number}" in names_there:
        number += 1
    # The logs first: one that is left beside a new file would be played into it.
    for ending in ("-wal", "-shm", "-journal", ""):
        source = f"{error.path}{ending}"
        if source in names_there:
            target = f"{error.path}.damaged-{number}{ending}"
            place.storage.posix.rename(
                place.storage.absolute(source), place.storage.absolute(target)
            )


def sweep(place: Place, found: Found, *, needed: set[str], busy: bool) -> None:
    """Looks at the store as a whole.

    Args:
        place: The store.
        found: Where findings go.
        needed: Names of shards that stay: a damaged checkpoint may be healed from them.
        busy: Whether a run is being written: what is not finished may be finished soon, then.
    """
    folders = set(place.run_names())
    for info in place.catalog.runs():
        if info.name not in folders:
            found.act(
                "drift",
                names.folder_of_run(info.name),
                f"the catalog knows the run {info.name}, which has no folder",
                "forget it",
                partial(place.catalog.forget_run, info.name),
            )
    for folder in place.storage.folders("runs"):
        _emptied(place, found, names.run_of_folder(folder))
    _store_file(place, found)
    _set_aside(place, found)
    if not busy:
        leftovers(place, found, "")
    empty = []
    for name in place.storage.folders("shards"):
        folder = f"shards/{name}"
        if not busy:
            leftovers(place, found, folder)
        for file in place.storage.names(folder):
            _ownerless(place, found, f"{folder}/{file}", needed)
        if not place.storage.names(folder):
            empty.append(folder)
    if empty:
        found.act(
            "empty",
            "shards",
            f"folders without shards: {len(empty)}",
            "remove them",
            partial(_remove_folders, place, empty),
        )


def _emptied(place: Place, found: Found, run: str) -> None:
    """Finds what a deletion left that was cut off when only the run's folder was left."""
    folder = names.folder_of_run(run)
    if not set(place.storage.names(folder)) <= {names.LOCK}:
        return
    with standing(place, run, take=found.apply) as owner:
        if owner.mine:
            found.act(
                "leftover",
                folder,
                "the empty folder of a run that was deleted, or never begun",
                "remove it",
                partial(remove_if_empty, place, run),
            )


def leftovers(place: Place, found: Found, folder: str) -> None:
    """Finds files in a folder that were never finished; nobody may be writing there."""
    for name in place.storage.names(folder):
        if name.startswith(TEMPORARY_PREFIX) and not _is_probing(name):
            path = f"{folder}/{name}" if folder else name
            found.act(
                "leftover",
                path,
                "a file that was never finished",
                "remove it",
                partial(place.storage.remove, path),
            )


def _store_file(place: Place, found: Found) -> None:
    try:
        unseal(place.storage.read(names.STORE_FILE), path=names.STORE_FILE)
    except FileNotFoundError:
        what = "it is missing"
    except HoldfastError as error:
        what = error.message
    else:
        return
    action = "nothing is lost with it: `holdfast doctor --apply` makes it anew"
    found.leave("damaged", names.STORE_FILE, what, action)


def _set_aside(place: Place, found: Found) -> None:
    for name in place.storage.names(""):
        if _SET_ASIDE.fullmatch(name):
            found.act(
                "leftover",
                name,
                "a damaged file that was moved aside and made anew",
                "remove it",
                partial(place.storage.remove, name),
            )


def _ownerless(place: Place, found: Found, path: str, needed: set[str]) -> None:
    name = path.rpartition("/")[2]
    # What a damaged checkpoint may still be healed from stays.
    if name.startswith(TEMPORARY_PREFIX) or name.removesuffix(".safetensors") in needed:
        return
    if place.storage.link_count(path) == 1:
        found.act(
            "ownerless",
            path,
            f"a shard that no checkpoint holds, {place.storage.size(path) or 0} bytes",
            "remove it",
            partial(place.storage.remove, path),
        )


def _remove_folders(place: Place, folders: Iterable[str]) -> None:
    for folder in folders:
        # Only what is still empty goes; a save that wants the folder just now does without the
        # shard's second name.
        place.storage.remove_folder(folder)


def _is_probing(name: str) -> bool:
    """Returns whether a file belongs to a process that is opening the store right now."""
    if not name.startswith(_PROBE):
        return False
    pid = name.removeprefix(_PROBE).partition("-")[0]
    return pid.isdigit() and os.path.exists(f"/proc/{pid}")  # noqa: PTH110 - a question, no path
