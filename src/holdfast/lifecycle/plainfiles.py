"""Plain safetensors files, as any tool writes and reads them.

The layout is that of https://github.com/huggingface/safetensors ("Format"): eight bytes of length,
a JSON header, and the tensors without gaps.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from io import BufferedReader
from pathlib import Path
from typing import Any, Final

import numpy as np
from blake3 import blake3

from holdfast.engine.reader import Located, open_files
from holdfast.engine.sealed import parse_strict
from holdfast.engine.shardfile import (
    ITEM_NBYTES,
    MAX_HEADER_NBYTES,
    TensorEntry,
    check_extents,
)
from holdfast.errors import ConfigError, FormatError, IntegrityError
from holdfast.storage import LocalStorage

#: Readers of the format want the tensors to begin at a multiple of this.
_ALIGNMENT: Final = 8
_PIECE_NBYTES: Final = 8 << 20

Tensors = Mapping[str, Located]


# -- writing -----------------------------------------------------------------------------------


def write_tensors(storage: LocalStorage, path: Path, tensors: Tensors) -> None:
    """Copies tensors of a store into a plain file, each compared with its digest on the way.

    Args:
        storage: The store's files.
        path: The file to write; it must not exist.
        tensors: Name in the file to place in the store.

    Raises:
        IntegrityError: A tensor is damaged; what is at `path` must not be used.
        OSError: The file could not be written.
    """
    # Wide elements first keeps each tensor aligned to its element.
    order = sorted(tensors, key=lambda name: (-ITEM_NBYTES[tensors[name].entry.dtype], name))
    members: dict[str, object] = {"__metadata__": {"format": "pt"}}
    begin = 0
    for name in order:
        entry = tensors[name].entry
        end = begin + entry.nbytes
        members[name] = {
            "dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [begin, end],
        }  # fmt: skip
        begin = end
    text = json.dumps(members, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with ExitStack() as stack:
        file = stack.enter_context(path.open("xb"))
        file.write(len(text).to_bytes(8, "little") + text)
        paths = {tensor.path for tensor in tensors.values()}
        sources = stack.enter_context(open_files(storage, paths))
        piece = memoryview(bytearray(_PIECE_NBYTES))
        for name in order:
            place = tensors[name]
            digest = blake3()
            for offset in range(0, place.entry.nbytes, _PIECE_NBYTES):
                part = piece[: min(_PIECE_NBYTES, place.entry.nbytes - offset)]
                sources[place.path].read_into(place.offset + offset, part)
                digest.update(part)
                file.write(part)
            if digest.hexdigest() != place.entry.digest:
                raise IntegrityError(
                    f"{place.path} is damaged: the tensor {place.entry.name!r} does not match "
                    "its digest",
                    hint="use another checkpoint; `holdfast verify` lists what is intact",
                    path=place.path,
                    tensor=place.entry.name,
                )
        file.flush()
        os.fsync(file.fileno())


def split(tensors: Tensors, *, limit: int) -> list[Tensors]:
    """Returns tensors in groups of up to so many bytes, in their order; at least one group."""
    groups: list[dict[str, Located]] = [{}]
    size = 0
    for name, place in tensors.items():
        if groups[-1] and size + place.entry.nbytes > limit:
            groups.append({})
            size = 0
        groups[-1][name] = place
        size += place.entry.nbytes
    return list(groups)


def index_of(files: Mapping[str, Tensors]) -> dict[str, object]:
    """Returns the index that says which tensor is in which file, as Hugging Face's tools do."""
    return {
        "metadata": {
            "total_size": sum(
                t.entry.nbytes for tensors in files.values() for t in tensors.values()
            )
        },
        "weight_map": dict(
            sorted((name, file) for file, tensors in files.items() for name in tensors)
        ),
    }


# -- reading -----------------------------------------------------------------------------------


def read_tensors(path: Path) -> tuple[dict[str, TensorEntry], dict[str, memoryview]]:
    """Returns what is in a plain safetensors file: descriptions and bytes by name.

    The descriptions have no digest: plain files carry none.

    Raises:
        FormatError: It is no such file, its sizes do not add up, or there is no memory for it.
        ConfigError: It cannot be opened.
    """
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, MAX_HEADER_NBYTES):
            raise _not_safetensors(path, "it is cut short, or something else")
        members = parse_strict(file.read(length), path=str(path))
        try:
            entries = _entries(members, size - 8 - length)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _not_safetensors(path, str(error)) from error
        data: dict[str, memoryview] = {}
        for entry in entries:
            try:
                buffer = np.empty(entry.nbytes, np.uint8).data
            except MemoryError as error:
                raise _not_safetensors(
                    path, f"{entry.name!r} has {entry.nbytes} bytes, more than there is memory"
                ) from error
            file.seek(8 + length + entry.begin)
            if file.readinto(buffer) != entry.nbytes:
                raise _not_safetensors(path, f"it ends within {entry.name!r}")
            data[entry.name] = buffer
    return {entry.name: entry for entry in entries}, data


def open_plain(path: Path) -> BufferedReader:
    """Opens another tool's file for reading; a link is followed, for their caches are full of them.

    Raises:
        FormatError: It is no file: a pipe, a socket, a device, a folder.
        ConfigError: It cannot be opened.
    """
    try:
        # Without blocking: a pipe would wait for a writer.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be opened: {error.strerror}", hint="check the path and its permissions"
        ) from error
    file = os.fdopen(fd, "rb")
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        file.close()
        raise FormatError(f"{path} is not a regular file", hint="pass a file or a folder of files")
    return file


def _entries(members: dict[str, Any], data_nbytes: int) -> Sequence[TensorEntry]:
    members.pop("__metadata__", None)
    entries = []
    for name, member in members.items():
        begin, end = member["data_offsets"]
        shape = tuple(member["shape"])
        dtype = member["dtype"]
        check_extents(name, shape, begin, end)
        if dtype not in ITEM_NBYTES:
            raise ValueError(f"{name!r} has the dtype {dtype!r}, which this version cannot store")
        nbytes = math.prod(shape) * ITEM_NBYTES[dtype]
        if end - begin != nbytes:
            raise ValueError(f"{name!r} has {end - begin} bytes, not what its shape says")
        entries.append(TensorEntry(name, dtype, shape, "", nbytes, begin))
    entries.sort(key=lambda entry: (entry.begin, entry.nbytes))
    end = 0
    for entry in entries:
        if entry.begin != end:
            raise ValueError("the tensors leave gaps or overlap")
        end += entry.nbytes
    if end != data_nbytes:
        raise ValueError(f"its tensors have {end} bytes, the file {data_nbytes}")
    return entries


def _not_safetensors(path: Path, why: str) -> FormatError:
    return FormatError(
        f"{path} is no safetensors file: {why}", hint="fetch it again, or pass the right file"
    )
