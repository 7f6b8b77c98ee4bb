"""Which store a command is about, and opening it without making one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import holdfast
from holdfast.errors import IntegrityError, NotFoundError, SaveError

VARIABLE = "HOLDFAST_STORE"
CATALOG_VARIABLE = "HOLDFAST_CATALOG"
_STORE_FILE = "holdfast.json"
_USUAL = ("checkpoints", "models/checkpoints")


def find_store(given: str | None, *, start: Path) -> str:
    """Returns where the store is.

    The first of: what was given, ``$HOLDFAST_STORE``, the nearest folder from `start` upwards that
    is a store, and the usual places below `start`.

    Args:
        given: A path or URL, or None.
        start: The working directory.

    Raises:
        NotFoundError: Nothing was given and there is none; the error names what was looked for.
    """
    chosen = given or os.environ.get(VARIABLE)
    if chosen:
        return chosen
    start = start.absolute()
    for place in (start, *start.parents, *(start / usual for usual in _USUAL)):
        if (place / _STORE_FILE).is_file():
            return str(place)
    looked = ", ".join(f"./{usual}" for usual in _USUAL)
    raise NotFoundError(
        f"no store found: no {_STORE_FILE} in {start} or above it, and none in {looked}",
        hint=f"name it: holdfast --store PATH ..., or set {VARIABLE}",
    )


def open_store(
    url: str, *, writing: bool = False, create: bool = False, mirrors: Sequence[str] = ()
) -> holdfast.Store:
    """Opens a store.

    Args:
        url: A path or URL.
        writing: Whether anything is to be changed; left out, nothing at all is written.
        create: Whether to make a store where there is none.
        mirrors: Its mirrors, besides those that it remembers.

    Raises:
        HoldfastError: As `holdfast.open`.
    """
    catalog = os.environ.get(CATALOG_VARIABLE)
    # Opening for writing makes a store: a mistyped path must not leave an empty one behind.
    mode = "a" if create or (writing and is_store(url)) else "r"
    return holdfast.open(url, mode="a" if mode == "a" else "r", catalog=catalog, mirrors=mirrors)


def is_store_file(error: IntegrityError) -> bool:
    """Returns whether an error speaks of the file that makes a folder a store."""
    return error.path == _STORE_FILE


def set_store_file_aside(url: str) -> Path:
    """Moves a damaged ``holdfast.json`` out of the way: the next opening makes it anew.

    Raises:
        SaveError: The medium did not let it.
    """
    path = _folder(url) / _STORE_FILE
    number = 1
    while (aside := path.with_name(f"{_STORE_FILE}.damaged-{number}")).exists():
        number += 1
    try:
        return path.rename(aside)
    except OSError as error:
        raise SaveError(
            f"{path} cannot be moved aside: {error.strerror}",
            hint="check that you may write in its folder",
        ) from error


def is_store(url: str) -> bool:
    """Returns whether there is a store already, as far as that can be told from here."""
    if "://" in url and urlsplit(url).scheme != "file":
        return True
    path = _folder(url)
    return (path / _STORE_FILE).exists() or (path / "runs").is_dir()


def _folder(url: str) -> Path:
    return Path(unquote(urlsplit(url).path)) if "://" in url else Path(url).expanduser()
