"""From a path or URL to an opened place: found or made, probed, and its catalog healed."""

from __future__ import annotations

import logging
import os
import secrets
import time
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from holdfast.catalog import Catalog
from holdfast.engine import names
from holdfast.engine.manifest import check_format
from holdfast.engine.sealed import seal, unseal
from holdfast.errors import (
    ConfigError,
    FormatError,
    HoldfastError,
    IntegrityError,
    LockedError,
    NotFoundError,
)
from holdfast.lifecycle.place import Place
from holdfast.lifecycle.reindex import catch_up
from holdfast.storage import Capabilities, LocalStorage, Posix, probe
from holdfast.storage.failures import failure_of

_log = logging.getLogger("holdfast")

_CATALOG = "catalog.sqlite3"
_STORE_FILE_LIMIT = 1 << 16


def open_place(
    url: str | os.PathLike[str],
    *,
    mode: Literal["a", "r"],
    catalog: str | None,
    posix: Posix | None = None,
) -> Place:
    """Opens a store's place; arguments and errors as `holdfast.open`.

    Args:
        url: See there.
        mode: See there.
        catalog: See there.
        posix: The system calls that every change goes through; a proof records or fails them.
    """
    if mode not in ("a", "r"):
        raise ConfigError(f"mode={mode!r} is no mode", hint='pass "a" to write or "r" to read')
    root = local_path(url)
    if root.exists() and not root.is_dir():
        raise ConfigError(
            f"{root} is a file, not a store",
            hint="pass a folder, or a path that does not exist yet",
        )
    writable = mode == "a" and _is_writable(root)
    if mode == "a" and not writable:
        if not (root / names.STORE_FILE).exists() and not (root / "runs").is_dir():
            raise ConfigError(
                f"no permission to create a store at {root}",
                hint="choose a place that you can write, or create the folder and give it to you",
            )
        _log.info("%s cannot be written: it is opened for reading", root)
    storage = LocalStorage(root, posix=posix)
    store_id = _identify(storage, writable=writable)
    if writable:
        return _open_writable(storage, store_id, catalog)
    return _open_read_only(storage, store_id, catalog)


def _open_writable(storage: LocalStorage, store_id: str, catalog: str | None) -> Place:
    try:
        found = probe(storage.root)
    except OSError as error:
        raise failure_of(
            error, "trying out the store", needed=0, free=storage.free_nbytes, root=storage.root
        ) from error
    _log.debug("%s: %s", storage.root, found)
    storage.direct = found.direct_alignment > 0
    where = catalog or _own_catalog(storage)
    try:
        index = Catalog.open(where, store_id=store_id, wal=found.sqlite_wal)
        place = _place(storage, index, store_id, found, writable=True)
        catch_up(place)
    except (ConfigError, LockedError):
        raise
    except HoldfastError as error:
        # A full disk, most likely: the store must open all the same, to be read and pruned.
        _log.warning("%s; until the next opening it is kept in memory", error.message)
        index = Catalog.open(":memory:", store_id=store_id)
        place = _place(storage, index, store_id, found, writable=True)
        catch_up(place)
    return place


def _open_read_only(storage: LocalStorage, store_id: str, catalog: str | None) -> Place:
    where = catalog or _own_catalog(storage)
    index = Catalog.open(where, store_id=store_id, read_only=True)
    place = _place(storage, index, store_id, None, writable=False)
    if index.state == "ok" and _is_current(place):
        return place
    # The files are the truth; what the catalog lags behind is indexed in memory.
    index.close()
    place = _place(
        storage, Catalog.open(":memory:", store_id=store_id), store_id, None, writable=False
    )
    catch_up(place)
    return place


def _own_catalog(storage: LocalStorage) -> str:
    """Returns where the store's own catalog is; SQLite would follow a link out of the store."""
    path = storage.root / _CATALOG
    for ending in ("", "-wal", "-shm", "-journal"):
        if path.with_name(f"{_CATALOG}{ending}").is_symlink():
            raise FormatError(
                f"{_CATALOG}{ending} is a symbolic link",
                hint="remove it, for it is made anew; catalog= keeps a catalog elsewhere",
            )
    return str(path)


def _is_current(place: Place) -> bool:
    """Returns whether the catalog knows all that there is, or is about to be told by its writer.

    A run that is being written may be a moment ahead of the catalog; its owner brings it there,
    and whoever reads the catalog goes on to see what is saved.
    """
    seen = place.catalog.sync_states()
    now = place.marks()
    behind = {run for run in seen.keys() | now.keys() if seen.get(run) != now.get(run)}
    behind.update(run for run, _ in place.catalog.pending())
    return all(_is_being_written(place, run) for run in behind)


def _is_being_written(place: Place, run: str) -> bool:
    return place.storage.lock(f"{names.folder_of_run(run)}/{names.LOCK}").busy()


def _place(
    storage: LocalStorage,
    catalog: Catalog,
    store_id: str,
    capabilities: Capabilities | None,
    *,
    writable: bool,
) -> Place:
    return Place(storage, catalog, store_id, capabilities, writable, str(storage.root))


def local_path(url: str | os.PathLike[str], *, what: str = "stores") -> Path:
    """Returns the folder that a path or a ``file://`` URL names.

    Args:
        url: The path or URL.
        what: What it is for, in the message.

    Raises:
        ConfigError: It is a URL of another kind.
    """
    text = os.fspath(url)
    if "://" not in text:
        return Path(text).expanduser().absolute()
    try:
        parts = urlsplit(text)
    except ValueError:
        # Not chained: what could not be read may hold a password.
        raise ConfigError(
            "the store's URL cannot be read", hint="pass a path or a file:// URL"
        ) from None
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    raise ConfigError(
        f"{parts.scheme}:// {what} are not available in this version",
        hint="pass a path or a file:// URL",
    )


def _is_writable(root: Path) -> bool:
    existing = root
    while not existing.exists():
        existing = existing.parent
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def _identify(storage: LocalStorage, *, writable: bool) -> str:
    """Returns the store's id, making the store where there is none."""
    try:
        data = storage.read(names.STORE_FILE, limit=_STORE_FILE_LIMIT)
    except FileNotFoundError:
        if writable:
            return _create(storage)
        if storage.names("runs"):
            _log.warning("%s has lost its %s", storage.root, names.STORE_FILE)
            return ""
        raise NotFoundError(
            f"there is no store at {storage.root}",
            hint="check the path; opening it for writing makes one",
        ) from None
    try:
        members = unseal(data, path=names.STORE_FILE)
    except IntegrityError as error:
        if not writable:
            # It holds nothing that reading rests on.
            _log.warning("%s is damaged", storage.root / names.STORE_FILE)
            return ""
        raise IntegrityError(
            f"{storage.root / names.STORE_FILE} is damaged",
            hint="it holds nothing but the store's id: `holdfast doctor --apply` makes it anew, "
            "or move it aside",
            path=names.STORE_FILE,
        ) from error
    check_format(members, path=f"{storage.root / names.STORE_FILE}")
    store_id = members.get("store_id")
    if not isinstance(store_id, str):
        raise FormatError(f"{storage.root} has no id", hint="move holdfast.json aside")
    return store_id


def _create(storage: LocalStorage) -> str:
    if storage.names("runs"):
        _log.warning("%s had lost its %s: made anew", storage.root, names.STORE_FILE)
    members = {"format": 1, "store_id": secrets.token_hex(16), "created_at": time.time()}
    _make_folders(storage)
    for folder in ("shards", "runs"):
        storage.make_folder(folder)
    try:
        storage.publish(names.STORE_FILE, [seal(members)], exclusive=True)
    except FileExistsError:
        # Another process was faster; its store is the store.
        return _identify(storage, writable=False)
    return str(members["store_id"])


def _make_folders(storage: LocalStorage) -> None:
    """Creates the store's folder and those above it, each durable in its parent."""
    made = [storage.root]
    while not made[-1].parent.exists():
        made.append(made[-1].parent)
    for folder in reversed(made):
        LocalStorage(folder.parent, posix=storage.posix).make_folder(folder.name)
