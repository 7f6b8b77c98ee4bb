"""Opening a store that has mirrors: they are its own, and what it lost of its name comes back."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from holdfast.engine import names
from holdfast.errors import HoldfastError, IntegrityError, NotFoundError
from holdfast.lifecycle.mirrors import Mirror, are_akin, check, identity, mirror_at
from holdfast.lifecycle.place import Place
from holdfast.placing import local_path, open_place
from holdfast.storage import LocalStorage, set_aside

_log = logging.getLogger("holdfast")


def open_mirrored(
    url: str | os.PathLike[str],
    *,
    mode: Literal["a", "r"],
    catalog: str | None,
    mirrors: Iterable[str | os.PathLike[str]],
) -> Place:
    """Opens a store's place with its mirrors; arguments and errors as `holdfast.open`."""
    root = local_path(url)
    found = tuple(mirror_of(path, store=root) for path in mirrors)
    if found:
        storage = LocalStorage(root)
        _require_something(storage, found)
        if mode == "a":
            _recover_name(storage, found)
    place = open_place(url, mode=mode, catalog=catalog)
    try:
        for mirror in found:
            check(mirror, place.store_id)
    except BaseException:
        place.catalog.close()
        raise
    return replace(place, mirrors=found)


def mirror_of(url: str | os.PathLike[str], *, store: Path) -> Mirror:
    """Returns the mirror that a path or URL names.

    Raises:
        ConfigError: It is a URL of another kind, or the folder cannot be a mirror of this store.
    """
    return mirror_at(local_path(url, what="mirrors"), store=store)


def _require_something(storage: LocalStorage, mirrors: tuple[Mirror, ...]) -> None:
    """Refuses to begin a new store beside a mirror that holds the old one."""
    if storage.size(names.STORE_FILE) is not None or storage.names("runs"):
        return
    for mirror in mirrors:
        runs = len(mirror.storage.folders("runs"))
        if runs:
            raise NotFoundError(
                f"there is no store at {storage.root}, and its mirror {mirror.label} holds "
                f"{runs} runs",
                hint=f"bring all of it back: holdfast --store {storage.root} doctor --apply "
                f"--mirror {mirror.label}",
            )


def _recover_name(storage: LocalStorage, mirrors: tuple[Mirror, ...]) -> None:
    """Takes a missing or damaged ``holdfast.json`` from a mirror that is surely this store's."""
    try:
        if identity(storage) is not None:
            return
    except IntegrityError:
        _log.warning("%s is damaged", storage.root / names.STORE_FILE)
    for mirror in mirrors:
        try:
            if not are_akin(storage, mirror.storage) or identity(mirror.storage) is None:
                continue
            data = mirror.storage.read(names.STORE_FILE)
            if storage.size(names.STORE_FILE) is not None:
                set_aside(storage, names.STORE_FILE, copy=True)
            storage.publish(names.STORE_FILE, [data])
        except (HoldfastError, OSError) as error:
            _log.warning("its copy on the mirror %s cannot be used: %s", mirror.label, error)
            continue
        _log.warning("%s was taken from the mirror %s", names.STORE_FILE, mirror.label)
        return
