"""torch's own files, for exchange with other tools: never a part of a store.

They are pickles inside. Written are only plain values that `torch.load(weights_only=True)` takes,
and reading is always done in that mode, in which torch builds tensors and containers and calls
nothing that a file names.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch

from holdfast.errors import ConfigError, FormatError, SaveError
from holdfast.tree import EnumName, render

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
        return torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251 - no code runs
    except OSError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise FormatError(
            f"{path} was refused by torch: {reason}",
            hint="it is damaged, or holds objects that only running their code could build; where "
            "you trust it, load it yourself and save its state_dict() as safetensors",
        ) from error


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
