"""Files of a checkpoint that are missing or damaged, and sound copies of them in the same store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from blake3 import blake3

from holdfast.engine import names, reader
from holdfast.engine.manifest import IndexFile, Manifest, StoredItem, StoredShard
from holdfast.engine.reader import Located
from holdfast.engine.sealed import dump_strict
from holdfast.errors import HoldfastError
from holdfast.lifecycle.place import Place

#: Shard name to the checkpoints that hold it, by id.
Holders = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Broken:
    """A file that is not what its manifest says.

    Attributes:
        path: Its path, relative to the store.
        why: What is wrong with it.
        source: Where its bytes are, sound, in the same store: a path, or an empty string.
        shard: The shard that it should be; None for an index.
        content: What an index must hold, where that could be told from the shards.
    """

    path: str
    why: str
    source: str = ""
    shard: StoredShard | None = None
    content: bytes | None = None

    @property
    def curable(self) -> bool:
        """Whether `heal` can put it right."""
        return bool(self.source) or self.content is not None


def holders(place: Place) -> dict[str, tuple[str, ...]]:
    """Returns which checkpoints hold which shard, as the catalog knows it."""
    found: dict[str, tuple[str, ...]] = {}
    for record in place.catalog.checkpoints():
        for shard in record.info.shards:
            found[shard] = (*found.get(shard, ()), record.info.id)
    return found


def broken_files(
    place: Place, manifest: Manifest, known: Holders, *, thoroughly: bool
) -> Iterator[Broken]:
    """Yields the files of a checkpoint that are not sound.

    Args:
        place: The store.
        manifest: The checkpoint.
        known: Where else its shards are.
        thoroughly: Read the tensors, too; else only that the files are there, with their length
            and their header.
    """
    for item in manifest.items.values():
        for shard in item.shards:
            why = _fault(place, manifest.folder, shard, thoroughly=thoroughly)
            if why:
                source = _sound_copy(place, manifest, shard, known)
                yield Broken(f"{manifest.folder}/{shard.file}", why, source, shard)
        if item.index is not None:
            why = _index_fault(place, manifest.folder, item.index)
            if why:
                path = f"{manifest.folder}/{item.index.file}"
                yield Broken(path, why, content=_index_content(place, manifest, item))


def heal(place: Place, broken: Broken) -> None:
    """Puts a sound copy in the place of a broken file, durably.

    Raises:
        SaveError, StorageFullError: The medium failed; the file is as it was.
        FileNotFoundError: The copy is gone.
    """
    storage = place.storage
    if broken.content is not None:
        storage.publish(broken.path, [broken.content])
    elif place.links:
        storage.relink(broken.source, broken.path)
        storage.sync_folder(broken.path.rpartition("/")[0])
    else:
        storage.publish(broken.path, [storage.read(broken.source)])


def is_sound(place: Place, folder: str, shard: StoredShard) -> bool:
    """Returns whether a file is a shard to the bit; reads all of it."""
    return not _fault(place, folder, shard, thoroughly=True)


def second_name(shard: StoredShard) -> tuple[str, StoredShard]:
    """Returns a shard's folder below shards/, and the shard as it is called there."""
    folder, _, file = names.shard_path(shard.shard).rpartition("/")
    return folder, StoredShard(file, shard.shard, shard.nbytes)


def _fault(place: Place, folder: str, shard: StoredShard, *, thoroughly: bool) -> str:
    path = f"{folder}/{shard.file}"
    try:
        header = reader.read_header(place.storage, folder, shard)
        for entry in header.tensors if thoroughly else ():
            buffer = np.empty(entry.nbytes, np.uint8).data
            located = Located(path, header.data_start + entry.begin, entry)
            reader.read_tensors(place.storage, [(located, buffer)])
    except FileNotFoundError:
        return f"{path} is missing"
    except HoldfastError as error:
        return error.message
    except OSError as error:
        return f"{path} cannot be read: {error.strerror or error}"
    return ""


def _sound_copy(place: Place, manifest: Manifest, shard: StoredShard, known: Holders) -> str:
    folder, second = second_name(shard)
    if is_sound(place, folder, second):
        return f"{folder}/{second.file}"
    for other_id in known.get(shard.shard, ()):
        if other_id == manifest.id:
            continue
        try:
            other = place.manifest(other_id)
        except HoldfastError:
            # Deleted since, or damaged itself: no source.
            other = None
        for item in other.items.values() if other else ():
            for candidate in item.shards:
                same = candidate.shard == shard.shard
                if other and same and is_sound(place, other.folder, candidate):
                    return f"{other.folder}/{candidate.file}"
    return ""


def _index_fault(place: Place, folder: str, index: IndexFile) -> str:
    path = f"{folder}/{index.file}"
    try:
        content = place.storage.read(path, limit=index.nbytes)
    except FileNotFoundError:
        return f"{path} is missing"
    except HoldfastError as error:
        return error.message
    matches = blake3(content).hexdigest() == index.digest
    return "" if matches else f"{path} is damaged: it does not match its digest"


def _index_content(place: Place, manifest: Manifest, item: StoredItem) -> bytes | None:
    """Returns what an index holds, told anew from the shards' headers; None where it cannot be."""
    weight_map: dict[str, str] = {}
    total = 0
    for shard in item.shards:
        try:
            header = reader.read_header(place.storage, manifest.folder, shard)
        except (HoldfastError, FileNotFoundError):
            return None
        weight_map.update((entry.name, shard.file) for entry in header.tensors)
        total += sum(entry.nbytes for entry in header.tensors)
    content = dump_strict(
        {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    )
    wanted = item.index.digest if item.index else ""
    return content if blake3(content).hexdigest() == wanted else None
