"""Checkpoints carried from one store to another: every byte is checked before it gets its name.

Mirroring and healing are this, in the two directions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from blake3 import blake3

from holdfast.engine import names
from holdfast.engine.manifest import MAX_NBYTES, IndexFile, Manifest, StoredShard, decode
from holdfast.engine.reader import read_header
from holdfast.engine.shardfile import TensorEntry
from holdfast.errors import HoldfastError, IntegrityError, NotFoundError
from holdfast.storage import Draft, LocalStorage
from holdfast.storage.openfiles import OpenFile

_PIECE_NBYTES: Final = 4 << 20

#: Called with bytes that are there now, copied or not.
Progress = Callable[[int], None]


def read_sealed(storage: LocalStorage, run: str, checkpoint_id: str) -> tuple[Manifest, bytes]:
    """Returns a manifest, checked, and the bytes of its file.

    Raises:
        NotFoundError: There is none.
        IntegrityError, FormatError: It is damaged, or not in this format.
    """
    path = f"{names.folder_of_checkpoint(run, checkpoint_id)}/{names.MANIFEST}"
    try:
        data = storage.read(path, limit=MAX_NBYTES)
    except FileNotFoundError:
        raise NotFoundError(
            f"there is no checkpoint {checkpoint_id!r} in {storage.root}",
            hint="`holdfast ls` lists what there is",
        ) from None
    return decode(data, run=run, checkpoint_id=checkpoint_id, path=path), data


def carry(
    source: LocalStorage,
    target: LocalStorage,
    manifest: Manifest,
    data: bytes,
    *,
    before_manifest: Callable[[], None] = lambda: None,
    progress: Progress = lambda nbytes: None,
) -> int:
    """Makes a checkpoint of one store exist in another; on return it survives any crash there.

    What an earlier attempt left there is gone on with.

    Args:
        source: Where it is.
        target: Where it is to be; its runs' folder exists.
        manifest: The checkpoint.
        data: The bytes of its manifest's file.
        before_manifest: Called when all else is durable.
        progress: Called with bytes of shards.

    Returns:
        Bytes that were copied rather than linked.

    Raises:
        FileNotFoundError: A file of it is gone from the source.
        IntegrityError, FormatError: The source is damaged: nothing of that file was named.
        SaveError, StorageFullError: The target's medium failed.
    """
    target.make_folder(manifest.folder)
    copied = 0
    for item in manifest.items.values():
        for shard in item.shards:
            copied += _bring(source, target, manifest.folder, shard, progress)
        if item.index is not None:
            copied += _bring_index(source, target, manifest.folder, item.index)
    # All names of shards are durable before the manifest that relies on them.
    target.sync_folder(manifest.folder)
    before_manifest()
    target.publish(f"{manifest.folder}/{names.MANIFEST}", [data])
    return copied + len(data)


def holds(storage: LocalStorage, folder: str, shard: StoredShard) -> bool:
    """Returns whether a file has a shard's length and header; its tensors are not read."""
    try:
        read_header(storage, folder, shard)
    except (FileNotFoundError, HoldfastError):
        return False
    return True


def copy_shard(
    source: LocalStorage,
    origin: str,
    target: LocalStorage,
    path: str,
    shard: StoredShard,
    *,
    progress: Progress = lambda nbytes: None,
) -> None:
    """Copies one shard, comparing its header and every tensor with their digests on the way.

    Args:
        source: Where it is.
        origin: Its path there.
        target: Where it is to be.
        path: Its path there, whose folder exists; a file of that name is replaced. The folder is
            not synced.
        shard: What it must be.
        progress: Called with bytes.

    Raises:
        FileNotFoundError: It is gone.
        IntegrityError, FormatError: It is damaged: nothing was named.
        SaveError, StorageFullError: The target's medium failed.
    """
    folder, _, file = origin.rpartition("/")
    header = read_header(source, folder, StoredShard(file, shard.shard, shard.nbytes))
    to, _, name = path.rpartition("/")
    with source.reading(origin) as opened:
        draft = target.draft(to, name, start=0, expected=shard.nbytes)
        try:
            start = b"".join(bytes(piece) for piece in _pieces(opened, 0, header.data_start))
            if blake3(start).hexdigest() != shard.shard:
                raise _damaged(origin, "")
            draft.append(start)
            for entry in header.tensors:
                _copy_tensor(opened, draft, entry, header.data_start, progress)
            target.publish_draft(draft, path)
        except BaseException:
            draft.discard()
            raise


def offer(storage: LocalStorage, path: str, shard: str) -> None:
    """Gives a shard its name under shards/, in place of what is not that shard.

    Nothing rests on that name, so it is not synced: its loss costs one more copy.
    """
    second = names.shard_path(shard)
    folder, _, file = second.rpartition("/")
    storage.make_folder(folder, durable=False)
    try:
        storage.link(path, second)
    except FileExistsError:
        if not holds(storage, folder, StoredShard(file, shard, storage.size(path) or 0)):
            storage.relink(path, second)


def _bring(
    source: LocalStorage,
    target: LocalStorage,
    folder: str,
    shard: StoredShard,
    progress: Progress,
) -> int:
    path = f"{folder}/{shard.file}"
    copied = 0
    # What has its name was durable and checked when it got it.
    if holds(target, folder, shard):
        progress(shard.nbytes)
    elif _link(target, path, shard):
        progress(shard.nbytes)
        return 0
    else:
        copy_shard(source, path, target, path, shard, progress=progress)
        copied = shard.nbytes
    if copied or target.link_count(path) == 1:
        offer(target, path, shard.shard)
    return copied


def _link(storage: LocalStorage, path: str, shard: StoredShard) -> bool:
    """Links a shard that is there already, under shards/; returns False where it is not."""
    second = names.shard_path(shard.shard)
    folder, _, file = second.rpartition("/")
    if not holds(storage, folder, StoredShard(file, shard.shard, shard.nbytes)):
        return False
    try:
        return storage.link(second, path)
    except FileExistsError:
        # It holds something else, which makes way.
        storage.relink(second, path)
        return True


def _bring_index(source: LocalStorage, target: LocalStorage, folder: str, index: IndexFile) -> int:
    path = f"{folder}/{index.file}"
    content = source.read(path, limit=index.nbytes)
    if blake3(content).hexdigest() != index.digest:
        raise _damaged(path, "")
    return target.publish(path, [content], sync_folder=False)


def _copy_tensor(
    file: OpenFile, draft: Draft, entry: TensorEntry, data_start: int, progress: Progress
) -> None:
    digest = blake3()
    for piece in _pieces(file, data_start + entry.begin, entry.nbytes):
        digest.update(piece)
        draft.append(piece)
        progress(len(piece))
    if digest.hexdigest() != entry.digest:
        raise _damaged(file.path, entry.name)


def _pieces(file: OpenFile, begin: int, nbytes: int) -> Iterator[memoryview]:
    """Yields bytes of a file, each piece good until the next one is asked for."""
    buffer = memoryview(bytearray(min(_PIECE_NBYTES, nbytes)))
    for offset in range(0, nbytes, _PIECE_NBYTES):
        piece = buffer[: min(_PIECE_NBYTES, nbytes - offset)]
        file.read_into(begin + offset, piece)
        yield piece


def _damaged(path: str, tensor: str) -> IntegrityError:
    what = f"the tensor {tensor!r} does not match its digest" if tensor else "it does not match"
    return IntegrityError(
        f"{path} is damaged: {what}",
        hint="use another checkpoint or a mirror",
        path=path,
        tensor=tensor,
    )
