"""Taking checkpoints, or items of them, out of a store: manifest first, then links, then shards.

Everything here may be interrupted at any call, and called again.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import replace

from blake3 import blake3

from holdfast.engine import names
from holdfast.engine.manifest import Manifest, encode
from holdfast.engine.shardfile import header_nbytes
from holdfast.errors import FormatError, IntegrityError
from holdfast.storage import LocalStorage

#: Names of a shard that one checkpoint alone has.
_FOLDER_AND_SHARDS = 2


def delete(storage: LocalStorage, run: str, checkpoint_id: str) -> None:
    """Removes a checkpoint, or what an interrupted save or deletion left of one.

    Raises:
        SaveError: The medium failed; calling again goes on.
    """
    folder = names.folder_of_checkpoint(run, checkpoint_id)
    removed = storage.remove(f"{folder}/{names.MANIFEST}")
    files = storage.names(folder)
    # From here on the checkpoint does not exist, whatever happens to its files. Synced also where
    # the manifest was gone already: whoever took it away may have died before this. Of two
    # processes that finish the same clean-up, the slower one finds nothing left to do.
    if (removed or files) and not storage.sync_folder(folder, gone_ok=True):
        return
    remove_files(storage, folder, files)
    if storage.remove_folder(folder):
        storage.sync_folder(names.folder_of_run(run))


def thin(storage: LocalStorage, manifest: Manifest, keep: Iterable[str]) -> Manifest:
    """Takes items away from a checkpoint by publishing the next generation of its manifest.

    Args:
        storage: The store's files.
        manifest: The checkpoint as it is.
        keep: Items that stay.

    Returns:
        The next generation; the same manifest where nothing is to be taken away.

    Raises:
        SaveError, StorageFullError: The medium failed; calling again goes on.
    """
    staying = {name: item for name, item in manifest.items.items() if name in set(keep)}
    if len(staying) < len(manifest.items):
        gone = manifest.items.keys() - staying.keys()
        manifest = replace(
            manifest,
            items=staying,
            generation=manifest.generation + 1,
            thinned=tuple(sorted({*manifest.thinned, *gone})),
            nbytes=sum(item.nbytes for item in staying.values()),
        )
        storage.publish(f"{manifest.folder}/{names.MANIFEST}", [encode(manifest)])
    remove_strays(storage, manifest)
    return manifest


def remove_strays(storage: LocalStorage, manifest: Manifest) -> list[str]:
    """Removes files in a checkpoint's folder that its manifest does not name; returns them."""
    named = {file for item in manifest.items.values() for file in item.files}
    strays = [n for n in storage.names(manifest.folder) if n not in named | {names.MANIFEST}]
    if strays:
        # The manifest that does without them may have been published by one who died at once.
        storage.sync_folder(manifest.folder)
    remove_files(storage, manifest.folder, strays)
    return strays


def remove_files(storage: LocalStorage, folder: str, files: Iterable[str]) -> None:
    """Removes files of a folder, and each shard that had no other checkpoint.

    What is no file was not put there by Holdfast, and stays.
    """
    for file in sorted(set(files) - set(storage.folders(folder))):
        path = f"{folder}/{file}"
        shard = shard_of(storage, path) if file.endswith(".safetensors") else None
        if shard is not None and storage.link_count(path) == _FOLDER_AND_SHARDS:
            # First, so that an interruption leaves no shard that nobody remembers.
            release_shard(storage, shard, others=1)
        storage.remove(path)
        if shard is not None:
            release_shard(storage, shard)


def release_shard(storage: LocalStorage, shard: str, *, others: int = 0) -> int:
    """Removes a shard's name under shards/ when nothing else needs it; returns bytes freed.

    Args:
        storage: The store's files.
        shard: The shard's name.
        others: How many other names of the file are about to go.
    """
    path = names.shard_path(shard)
    if storage.link_count(path) != 1 + others:
        return 0
    nbytes = storage.size(path) or 0
    storage.remove(path)
    return nbytes


def shard_of(storage: LocalStorage, path: str) -> str | None:
    """Returns the name of the shard in a file, by its header; None where it cannot be told.

    Raises:
        HoldfastError: The file cannot be opened now, and may be sound: too many open files.
    """
    try:
        with storage.reading(path) as file:
            first = bytearray(8)
            file.read_into(0, memoryview(first))
            nbytes = header_nbytes(bytes(first), file_nbytes=file.nbytes, path=path)
            data = bytearray(nbytes)
            file.read_into(0, memoryview(data))
    except (FileNotFoundError, IntegrityError, FormatError):
        # Unreadable: its second name, if it has one, is left for a sweep over shards/.
        return None
    return blake3(data).hexdigest()


def sweep_shards(storage: LocalStorage, *, keep: Container[str] = ()) -> tuple[int, int]:
    """Removes names under shards/ that no checkpoint has; returns their number and bytes.

    Args:
        storage: The store's files.
        keep: Names of shards that stay all the same: a checkpoint that lost its own name of one
            can be healed from it.
    """
    count = nbytes = 0
    for folder in storage.folders("shards"):
        for name in storage.names(f"shards/{folder}"):
            path = f"shards/{folder}/{name}"
            if storage.link_count(path) == 1 and name.removesuffix(".safetensors") not in keep:
                nbytes += storage.size(path) or 0
                count += storage.remove(path)
    return count, nbytes
