"""Files of a checkpoint that are missing or damaged, and sound copies: in the store, in mirrors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from blake3 import blake3

from holdfast.engine import names, reader
from holdfast.engine.carrying import copy_shard, offer
from holdfast.engine.manifest import IndexFile, Manifest, StoredItem, StoredShard
from holdfast.engine.reader import Located
from holdfast.engine.sealed import dump_strict
from holdfast.errors import HoldfastError
from holdfast.lifecycle.mirrors import Mirror
from holdfast.lifecycle.place import Place
from holdfast.storage import LocalStorage

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
        content: What an index must hold, where that is known.
        mirror: Who has it, sound, under the same path; None where the store has it, or nobody.
    """

    path: str
    why: str
    source: str = ""
    shard: StoredShard | None = None
    content: bytes | None = None
    mirror: Mirror | None = None

    @property
    def curable(self) -> bool:
        """Whether `heal` can put it right."""
        return bool(self.source) or self.content is not None or self.mirror is not None

    @property
    def action(self) -> str:
        """What `heal` does, or what is left to a person."""
        if self.mirror is not None:
            return f"take it from the mirror {self.mirror.label}"
        if self.source:
            return f"link it again from {self.source}"
        if self.curable:
            return "write it again"
        return "restore it from a copy, or delete the checkpoint"


def holders(place: Place) -> dict[str, tuple[str, ...]]:
    """Returns which checkpoints hold which shard, as the catalog knows it."""
    found: dict[str, tuple[str, ...]] = {}
    for record in place.catalog.checkpoints():
        for shard in record.info.shards:
            found[shard] = (*found.get(shard, ()), record.info.id)
    return found


def broken_files(
    place: Place,
    manifest: Manifest,
    known: Holders,
    *,
    thoroughly: bool,
    mirrors: Iterable[Mirror] = (),
) -> Iterator[Broken]:
    """Yields the files of a checkpoint that are not sound.

    Args:
        place: The store.
        manifest: The checkpoint.
        known: Where else its shards are.
        thoroughly: Read the tensors, too; else only that the files are there, with their length
            and their header.
        mirrors: Where else sound copies are looked for.
    """
    elsewhere = tuple(mirrors)
    for item in manifest.items.values():
        for shard in item.shards:
            why = _fault(place.storage, manifest.folder, shard, thoroughly=thoroughly)
            if why:
                source = _sound_copy(place, manifest, shard, known)
                mirror = None if source else _holder(elsewhere, manifest, shard)
                path = f"{manifest.folder}/{shard.file}"
                yield Broken(path, why, source, shard, mirror=mirror)
        if item.index is not None:
            why = _index_fault(place.storage, manifest.folder, item.index)
            if why:
                path = f"{manifest.folder}/{item.index.file}"
                content = _index_content(place, manifest, item)
                if content is None:
                    content = _index_of(elsewhere, path, item.index)
                yield Broken(path, why, content=content)


def heal(place: Place, broken: Broken) -> None:
    """Puts a sound copy in the place of a broken file, durably.

    Raises:
        SaveError, StorageFullError: The medium failed; the file is as it was.
        FileNotFoundError: The copy is gone.
        IntegrityError: The mirror's copy is damaged by now; the file is as it was.
    """
    storage = place.storage
    if broken.content is not None:
        storage.publish(broken.path, [broken.content])
    elif broken.mirror is not None and broken.shard is not None:
        copy_shard(broken.mirror.storage, broken.path, storage, broken.path, broken.shard)
        storage.sync_folder(broken.path.rpartition("/")[0])
        if place.links:
            offer(storage, broken.path, broken.shard.shard)
    elif place.links:
        storage.relink(broken.source, broken.path)
        storage.sync_folder(broken.path.rpartition("/")[0])
    else:
        storage.publish(broken.path, [storage.read(broken.source)])


def is_sound(place: Place, folder: str, shard: StoredShard) -> bool:
    """Returns whether a file is a shard to the bit; reads all of it."""
    return not _fault(place.storage, folder, shard, thoroughly=True)


def second_name(shard: StoredShard) -> tuple[str, StoredShard]:
    """Returns a shard's folder below shards/, and the shard as it is called there."""
    folder, _, file = names.shard_path(shard.shard).rpartition("/")
    return folder, StoredShard(file, shard.shard, shard.nbytes)


def _fault(storage: LocalStorage, folder: str, shard: StoredShard, *, thoroughly: bool) -> str:
    path = f"{folder}/{shard.file}"
    try:
        header = reader.read_header(storage, folder, shard)
        for entry in header.tensors if thoroughly else ():
            buffer = np.empty(entry.nbytes, np.uint8).data
            located = Located(path, header.data_start + entry.begin, entry)
            reader.read_tensors(storage, [(located, buffer)])
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


def _index_fault(storage: LocalStorage, folder: str, index: IndexFile) -> str:
    path = f"{folder}/{index.file}"
    try:
        content = storage.read(path, limit=index.nbytes)
    except FileNotFoundError:
        return f"{path} is missing"
    except HoldfastError as error:
        return error.message
    matches = blake3(content).hexdigest() == index.digest
    return "" if matches else f"{path} is damaged: it does not match its digest"


def _holder(mirrors: Iterable[Mirror], manifest: Manifest, shard: StoredShard) -> Mirror | None:
    """Returns a mirror that has a shard of a checkpoint, read in full."""
    for mirror in mirrors:
        if not _fault(mirror.storage, manifest.folder, shard, thoroughly=True):
            return mirror
    return None


def _index_of(mirrors: Iterable[Mirror], path: str, index: IndexFile) -> bytes | None:
    folder = path.rpartition("/")[0]
    for mirror in mirrors:
        if not _index_fault(mirror.storage, folder, index):
            return mirror.storage.read(path)
    return None


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
