"""Names of runs, items, tags and checkpoints, and the paths that they lead to."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final, TypeGuard

from holdfast.errors import ConfigError, FormatError

_RUN_PART: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", re.ASCII)
_ITEM: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", re.ASCII)
_ID: Final = re.compile(
    r"(?P<folder>[A-Za-z0-9_-][A-Za-z0-9._+-]{0,199})_\d{8}_\d{6}(-\d{1,20})?", re.ASCII
)
#: Shorter than any medium's limit on names, a temporary name's addition included.
_FILE: Final = re.compile(
    r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,149}\.safetensors(\.index\.json)?", re.ASCII
)
_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MAX_RUN: Final = 200

STORE_FILE: Final = "holdfast.json"
MIRRORS: Final = "mirrors.json"
MANIFEST: Final = "manifest.json"
JOURNAL: Final = "journal.jsonl"
LOCK: Final = "lock"


def check_run(name: object) -> str:
    """Returns a run's name; raises `ConfigError` for one that is not allowed."""
    if not isinstance(name, str) or not _is_run(name):
        raise ConfigError(
            f"{name!r} cannot be the name of a run",
            hint="use letters, digits, '.', '_', '-', and '/' to nest; no part empty or "
            "starting with '.'",
        )
    return name


def _is_run(name: str) -> bool:
    return len(name) <= _MAX_RUN and all(map(_RUN_PART.fullmatch, name.split("/")))


def is_item(name: object) -> TypeGuard[str]:
    """Returns whether something can be the name of an item."""
    return isinstance(name, str) and _ITEM.fullmatch(name) is not None


def check_item(name: object) -> str:
    """Returns an item's name; raises `ConfigError` for one that is not allowed."""
    if not is_item(name):
        raise ConfigError(
            f"{name!r} cannot be the name of an item",
            hint="use up to 100 letters, digits, '.', '_', '-', not starting with '.'",
        )
    return name


def check_tag(name: object) -> str:
    """Returns a tag; raises `ConfigError` for one that is not allowed."""
    if not isinstance(name, str) or not _ITEM.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot be a tag",
            hint="use up to 100 letters, digits, '.', '_', '-', not starting with '.'",
        )
    return name


def folder_of_run(run: str) -> str:
    """Returns the path of a run's folder, relative to the store."""
    return f"runs/{run.replace('/', '+')}"


def run_of_folder(folder: str) -> str:
    """Returns the run whose folder under ``runs/`` has this name."""
    return folder.replace("+", "/")


def is_run_folder(folder: str) -> bool:
    """Returns whether a name in ``runs/`` is one that a run's folder can have."""
    return "/" not in folder and _is_run(run_of_folder(folder))


def folder_of_checkpoint(run: str, checkpoint_id: str) -> str:
    """Returns the path of a checkpoint's folder, relative to the store."""
    return f"{folder_of_run(run)}/{checkpoint_id}"


def run_of_id(checkpoint_id: str) -> str:
    """Returns the run that an id belongs to.

    Raises:
        FormatError: It has not the form of an id.
    """
    match = _ID.fullmatch(checkpoint_id)
    if match is None:
        raise FormatError(
            f"{checkpoint_id!r} is not the id of a checkpoint",
            hint="ids read like digits_20251031_142530",
        )
    run = run_of_folder(match["folder"])
    try:
        return check_run(run)
    except ConfigError as error:
        raise FormatError(f"{checkpoint_id!r} names no valid run", hint=error.hint) from error


def is_id(text: str) -> bool:
    """Returns whether a text has the form of a checkpoint's id."""
    return _ID.fullmatch(text) is not None


def belongs(checkpoint_id: str, run: str) -> bool:
    """Returns whether an id is one that a checkpoint of the run can have."""
    match = _ID.fullmatch(checkpoint_id)
    return match is not None and match["folder"] == run.replace("/", "+")


def make_id(run: str, created_at: float, serial: int) -> str:
    """Returns the id of a checkpoint: its run, the second, and from the second one on a number."""
    stamp = datetime.fromtimestamp(created_at, UTC).strftime("%Y%m%d_%H%M%S")
    name = f"{run.replace('/', '+')}_{stamp}"
    return name if serial == 1 else f"{name}-{serial}"


def check_file(name: object) -> str:
    """Returns the name of a file in a checkpoint's folder; raises `FormatError` for any other."""
    if not isinstance(name, str) or not _FILE.fullmatch(name):
        raise FormatError(
            f"a manifest names the file {name!r}, which is none of a checkpoint's",
            hint="do not use this checkpoint",
        )
    return name


def check_digest(name: object) -> str:
    """Returns the name of a shard; raises `FormatError` for what is no digest."""
    if not isinstance(name, str) or not _DIGEST.fullmatch(name):
        raise FormatError(f"{name!r} is not the name of a shard", hint="do not use this checkpoint")
    return name


def shard_path(shard: str) -> str:
    """Returns a shard's second name, relative to the store."""
    return f"shards/{shard[:2]}/{shard}.safetensors"
