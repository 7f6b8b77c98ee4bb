"""torch's own files, for exchange with other tools: never a part of a store.

They are pickles inside. Written are only plain values that `torch.load(weights_only=True)` takes,
and reading is always done in that mode, in which torch builds tensors and containers and calls
nothing that a file names.
"""

from __future__ import annotations

import zipfile
from collections import OrderedDict
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from holdfast.errors import ConfigError, FormatError, SaveError
from holdfast.tree import EnumName, render

#: Values in a file of torch's, counted each time that they occur.
_MAX_VALUES: Final = 1 << 22
#: How many times the file's length its tensors may have: a tied or an expanded one is no attack.
_MAX_STRETCH: Final = 64
_PLAIN = (type(None), bool, int, float, complex, str, bytes)


def write_file(state: object, path: Path) -> None:
    """Writes a state as one file; see `frameworks.Framework.write_file`."""
    plain = _plain(state, [])
    try:
        torch.save(plain, path)  # noqa: TID251 - plain values alone, for other tools to read
    except RuntimeError as error:
        # What torch's own writer in C++ raises where Python would raise OSError.
        raise SaveError(
            f"torch could not write {path.name}: {error}", hint="check the medium's free space"
        ) from error


def read_file(path: Path) -> object:
    """Returns what one of torch's files holds; see `frameworks.Framework.read_file`."""
    try:
        _check_archive(path)
        state = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251 - no code runs
    except (OSError, FormatError):
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise FormatError(
            f"{path} was refused by torch: {reason}",
            hint="it is damaged, or holds objects that only running their code could build; where "
            "you trust it, load it yourself and save its state_dict() as safetensors",
        ) from error
    _check_size(state, path)
    return state


def _check_archive(path: Path) -> None:
    """Refuses an archive that unpacks to more than it is: torch's own are never compressed."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
    if packed or sum(member.file_size for member in members) > path.stat().st_size:
        raise FormatError(
            f"{path} is an archive that unpacks to more than it has, as torch never writes one",
            hint="do not use it, or load it yourself where you trust it",
        )


def _check_size(state: object, path: Path) -> None:
    """Refuses what a small file stands for without holding it.

    Parts that are there many times over (each twice in the next, and so on) and tensors that show
    a few numbers as billions are small in memory, and endless for whoever walks or stores them.
    """
    left = _MAX_VALUES
    room = _MAX_STRETCH * path.stat().st_size
    seen: set[int] = set()
    todo: list[object] = [state]
    while todo:
        value = todo.pop()
        left -= 1
        if isinstance(value, torch.Tensor) and id(value) not in seen:
            seen.add(id(value))
            room -= value.numel() * value.element_size()
        if left < 0 or room < 0:
            raise FormatError(
                f"{path} stands for far more than it holds: "
                + ("tensors of a few numbers, repeated" if room < 0 else "parts within parts"),
                hint="do not use it, or load it yourself where you trust it",
            )
        if isinstance(value, dict):
            todo += value
            todo += value.values()
        elif isinstance(value, (list, tuple, set, frozenset)):
            todo += value


def _plain(value: object, keys: list[object]) -> object:
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, np.ndarray):
        return _tensor(value, keys)
    if isinstance(value, np.generic):
        return _plain(value.item(), keys)
    if isinstance(value, (Enum, EnumName)):
        return value.name
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        kind = OrderedDict if isinstance(value, OrderedDict) else dict
        made: dict[Any, object] = kind(
            (_plain(key, keys), _plain(part, [*keys, key])) for key, part in value.items()
        )
        if kind is OrderedDict:
            vars(made).update(vars(value))
        return made
    if isinstance(value, (list, tuple)):
        parts = [_plain(part, [*keys, index]) for index, part in enumerate(value)]
        return parts if isinstance(value, list) else tuple(parts)
    if type(value) in _PLAIN:
        return value
    raise ConfigError(
        f"{render('', keys)} is {type(value)}, which has no plain form in a .pt file",
        hint="export as 'safetensors': it keeps everything",
    )


def _tensor(array: np.ndarray[Any, Any], keys: list[object]) -> object:
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    try:
        return torch.from_numpy(np.ascontiguousarray(native).reshape(array.shape).copy())
    except TypeError:
        # Text, times and records: torch has no such tensors.
        return _plain(array.tolist(), keys)
