"""Reading a checkpoint: nothing is handed out that does not match its digest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from blake3 import blake3

from holdfast.engine import names
from holdfast.engine.manifest import MAX_NBYTES, Manifest, StoredItem, StoredShard, decode
from holdfast.engine.shardfile import Header, TensorEntry, decode_header, header_nbytes
from holdfast.engine.spreading import spread
from holdfast.errors import FormatError, HoldfastError, IntegrityError, NotFoundError
from holdfast.storage import LocalStorage
from holdfast.storage.openfiles import OpenFile

_VERIFY_PIECE: Final = 8 << 20

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Located:
    """Where a tensor's bytes are: a shard's file, an offset in it, and what they must be."""

    path: str
    offset: int
    entry: TensorEntry


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
        return _header(file, shard)


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
            raise _missing(path) from None
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


def read_tensors(storage: LocalStorage, wanted: Iterable[tuple[Located, memoryview]]) -> None:
    """Fills buffers with tensors, and checks each against its digest.

    Args:
        storage: The store's files.
        wanted: Tensors and writable buffers of their length.

    Raises:
        IntegrityError: A tensor is damaged; some buffers are filled by then.
    """
    work = sorted(wanted, key=lambda pair: (pair[0].path, pair[0].offset))
    with _open_files(storage, {place.path for place, _ in work}) as files:

        def fill(pair: tuple[Located, memoryview]) -> None:
            place, buffer = pair
            files[place.path].read_into(place.offset, buffer)
            _compare(blake3(buffer).hexdigest(), place)

        spread(fill, work, nbytes=lambda pair: pair[0].entry.nbytes, name="holdfast-read")


def verify(
    storage: LocalStorage, manifest: Manifest, *, progress: Progress
) -> Iterator[HoldfastError]:
    """Reads all of a checkpoint and yields what is wrong with it, one error per file or tensor."""
    buffer = memoryview(bytearray(_VERIFY_PIECE))
    for item in manifest.items.values():
        for shard in item.shards:
            path = f"{manifest.folder}/{shard.file}"
            try:
                with storage.reading(path) as file:
                    yield from _verify_shard(file, shard, buffer, progress)
            except FileNotFoundError:
                yield _missing(path)
            except HoldfastError as error:
                yield error
        if item.index:
            path = f"{manifest.folder}/{item.index.file}"
            try:
                content = storage.read(path, limit=item.index.nbytes)
            except FileNotFoundError:
                yield _missing(path)
                continue
            except HoldfastError as error:
                yield error
                continue
            if blake3(content).hexdigest() != item.index.digest:
                yield _damaged(path, "the index of an item")


def _verify_shard(
    file: OpenFile, shard: StoredShard, buffer: memoryview, progress: Progress
) -> Iterator[HoldfastError]:
    header = _header(file, shard)
    for entry in header.tensors:
        digest = blake3()
        offset = header.data_start + entry.begin
        for begin in range(0, entry.nbytes, len(buffer)):
            piece = buffer[: min(len(buffer), entry.nbytes - begin)]
            file.read_into(offset + begin, piece)
            digest.update(piece)
            progress(len(piece))
        try:
            _compare(digest.hexdigest(), Located(file.path, offset, entry))
        except IntegrityError as error:
            yield error


def _header(file: OpenFile, shard: StoredShard) -> Header:
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


def _compare(digest: str, place: Located) -> None:
    if digest != place.entry.digest:
        raise IntegrityError(
            f"{place.path} is damaged: the tensor {place.entry.name!r} does not match its digest",
            hint="use another checkpoint or a mirror; `holdfast verify` lists what is intact",
            path=place.path,
            tensor=place.entry.name,
        )


def _missing(path: str) -> IntegrityError:
    return IntegrityError(
        f"{path} is missing", hint="use another checkpoint or a mirror", path=path
    )


def _damaged(path: str, what: str) -> IntegrityError:
    return IntegrityError(
        f"{path} is damaged: {what} does not match its digest",
        hint="use another checkpoint or a mirror",
        path=path,
    )


@contextmanager
def _open_files(storage: LocalStorage, paths: set[str]) -> Iterator[Mapping[str, OpenFile]]:
    with ExitStack() as stack:
        files = {}
        for path in sorted(paths):
            try:
                files[path] = stack.enter_context(storage.reading(path))
            except FileNotFoundError:
                raise _missing(path) from None
        yield files
