"""Reading a checkpoint: nothing is handed out that does not match its digest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from blake3 import blake3

from holdfast.engine import names
from holdfast.engine.filling import Located, Progress, Target, Wanted, fill
from holdfast.engine.manifest import (
    MAX_NBYTES,
    IndexFile,
    Manifest,
    StoredItem,
    StoredShard,
    decode,
)
from holdfast.engine.shardfile import Header, decode_header, header_nbytes
from holdfast.errors import FormatError, HoldfastError, IntegrityError, NotFoundError
from holdfast.storage import LocalStorage
from holdfast.storage.openfiles import OpenFile

__all__ = [
    "Located",
    "Progress",
    "header_of",
    "index_error",
    "locate",
    "missing",
    "open_files",
    "read_header",
    "read_manifest",
    "read_tensors",
    "stored_item",
]


def read_manifest(storage: LocalStorage, run: str, checkpoint_id: str) -> Manifest:
    """Returns a checkpoint's manifest.

    Raises:
        NotFoundError: There is none: the checkpoint does not exist (any more).
        IntegrityError, FormatError: It is damaged, or not in this format.
    """
    path = f"{names.folder_of_checkpoint(run, checkpoint_id)}/{names.MANIFEST}"
    try:
        data = storage.read(path, limit=MAX_NBYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(
            f"there is no checkpoint {checkpoint_id!r}", hint="`holdfast ls` lists what there is"
        ) from None
    return decode(data, run=run, checkpoint_id=checkpoint_id, path=path)


def read_header(storage: LocalStorage, folder: str, shard: StoredShard) -> Header:
    """Returns the header of a checkpoint's shard, checked against the shard's name.

    Raises:
        FileNotFoundError: The file is gone.
        IntegrityError, FormatError: It is damaged, or not in this format.
    """
    with storage.reading(f"{folder}/{shard.file}") as file:
        return header_of(file, shard)


def locate(storage: LocalStorage, manifest: Manifest, item: str) -> dict[str, Located]:
    """Returns where an item's tensors are, by name; aliases included.

    Raises:
        NotFoundError: The checkpoint has no such item (any more).
        IntegrityError, FormatError: A header is damaged, missing, or not in this format.
    """
    located: dict[str, Located] = {}
    for shard in stored_item(manifest, item).shards:
        path = f"{manifest.folder}/{shard.file}"
        try:
            header = read_header(storage, manifest.folder, shard)
        except FileNotFoundError:
            raise missing(path) from None
        found = {
            entry.name: Located(path, header.data_start + entry.begin, entry)
            for entry in header.tensors
        }
        found.update({alias: found[name] for alias, name in header.aliases.items()})
        if twice := located.keys() & found.keys():
            raise FormatError(
                f"{path} holds {min(twice)!r}, which another shard of the item holds too",
                hint="do not use this checkpoint",
            )
        located.update(found)
    return located


def stored_item(manifest: Manifest, item: str) -> StoredItem:
    """Returns an item of a checkpoint.

    Raises:
        NotFoundError: It has no such item, or had it taken away.
    """
    if item in manifest.items:
        return manifest.items[item]
    if item in manifest.thinned:
        raise NotFoundError(
            f"{manifest.id} no longer holds the item {item!r}: it was thinned",
            hint=f"it still holds {', '.join(manifest.items) or 'nothing'}",
        )
    raise NotFoundError(
        f"{manifest.id} holds no item {item!r}",
        hint=f"it holds {', '.join(manifest.items) or 'no items, only metrics'}",
        nearest=tuple(manifest.items),
    )


def read_tensors(storage: LocalStorage, wanted: Iterable[tuple[Located, Target]]) -> None:
    """Reads tensors, and checks each against its digest.

    Args:
        storage: The store's files.
        wanted: Tensors, and where each goes: a writable buffer of its length, or a sink; None to
            check it only. No two buffers overlap.

    Raises:
        IntegrityError: A file is missing, and no buffer was touched; or a tensor is damaged, and
            some buffers are filled by then.
    """
    work = list(wanted)
    with open_files(storage, {place.path for place, _ in work}) as files:
        fill(Wanted(place, files[place.path], target) for place, target in work)


def index_error(storage: LocalStorage, path: str, index: IndexFile) -> HoldfastError | None:
    """Returns what is wrong with an item's index file; None where it is sound."""
    try:
        content = storage.read(path, limit=index.nbytes)
    except FileNotFoundError:
        return missing(path)
    except HoldfastError as error:
        return error
    return None if blake3(content).hexdigest() == index.digest else _damaged(path)


def header_of(file: OpenFile, shard: StoredShard) -> Header:
    """Returns the header of an open file, checked against the shard that it should be.

    Raises:
        IntegrityError, FormatError: It is damaged, or not in this format.
    """
    if file.nbytes != shard.nbytes:
        raise IntegrityError(
            f"{file.path} has {file.nbytes} bytes instead of {shard.nbytes}",
            hint="the file was cut or extended: use another checkpoint or a mirror",
            path=file.path,
        )
    first = bytearray(8)
    file.read_into(0, memoryview(first))
    data = bytearray(header_nbytes(bytes(first), file_nbytes=file.nbytes, path=file.path))
    file.read_into(0, memoryview(data))
    return decode_header(bytes(data), file_nbytes=file.nbytes, shard=shard.shard, path=file.path)


def missing(path: str) -> IntegrityError:
    """Returns the error for a file that a manifest names and that is not there.

    It was lost, or another process has rightly taken it away since the manifest was read.
    """
    return IntegrityError(
        f"{path} is missing", hint="use another checkpoint or a mirror", path=path, missing=True
    )


def _damaged(path: str) -> IntegrityError:
    return IntegrityError(
        f"{path} is damaged: the index of an item does not match its digest",
        hint="use another checkpoint or a mirror",
        path=path,
    )


@contextmanager
def open_files(storage: LocalStorage, paths: set[str]) -> Iterator[Mapping[str, OpenFile]]:
    """Opens shard files, all of them before the first is read.

    Raises:
        IntegrityError: One of them is missing.
    """
    with ExitStack() as stack:
        files = {}
        for path in sorted(paths):
            try:
                files[path] = stack.enter_context(storage.reading(path))
            except FileNotFoundError:
                raise missing(path) from None
        yield files
