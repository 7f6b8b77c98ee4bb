"""A save: from a snapshot to a durable checkpoint, in the order that docs/format.md demands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from blake3 import blake3

from holdfast.engine import names
from holdfast.engine.finite import all_finite
from holdfast.engine.grouping import aliases_of, group
from holdfast.engine.manifest import IndexFile, Manifest, StoredItem, StoredShard, encode
from holdfast.engine.reader import read_header
from holdfast.engine.sealed import dump_strict
from holdfast.engine.shardfile import Header, TensorEntry, encode_header
from holdfast.engine.snapshot import ArrayCopy, ItemCopy, Snapshot
from holdfast.engine.spreading import spread
from holdfast.errors import HoldfastError
from holdfast.storage import LocalStorage
from holdfast.storage.posix import Buffer


@dataclass(frozen=True, slots=True)
class ParentShards:
    """What a save may reuse: the shards of the checkpoint before it.

    Attributes:
        folder: The parent's folder, relative to the store.
        headers: Item name to the headers of its shards.
        files: Shard name to its file in that folder.
    """

    folder: str
    headers: Mapping[str, tuple[Header, ...]]
    files: Mapping[str, str]

    @classmethod
    def read(cls, storage: LocalStorage, manifest: Manifest) -> ParentShards:
        """Reads the headers of a checkpoint's shards; an unreadable one is not reused."""
        headers: dict[str, tuple[Header, ...]] = {}
        files: dict[str, str] = {}
        for name, item in manifest.items.items():
            intact = []
            for shard in item.shards:
                try:
                    intact.append(read_header(storage, manifest.folder, shard))
                except (HoldfastError, FileNotFoundError):
                    # Damage is for verification to report; a save just writes the bytes again.
                    continue
                files[shard.shard] = shard.file
            headers[name] = tuple(intact)
        return cls(manifest.folder, headers, files)


@dataclass(frozen=True, slots=True)
class Committed:
    """A durable checkpoint, and what the next save may reuse of it."""

    manifest: Manifest
    shards: ParentShards


def commit(
    storage: LocalStorage,
    draft: Manifest,
    snapshot: Snapshot,
    *,
    parent: ParentShards | None = None,
    links: bool = True,
) -> Committed:
    """Makes a checkpoint exist; on return it survives any crash.

    Args:
        storage: The store's files.
        draft: The manifest but for its items and byte counts. Its folder exists, is empty, and
            its name is durable; so is the journal up to `journal_nbytes`.
        snapshot: The state. It is not given back here.
        parent: Shards that may be reused.
        links: Whether the medium has hard links.

    Raises:
        StorageFullError, SaveError: The medium failed. There is no manifest; `discard` removes
            what was written.
    """
    digests = _digest(snapshot)
    items: dict[str, StoredItem] = {}
    headers: dict[str, tuple[Header, ...]] = {}
    written = 0
    for name, copy in snapshot.items.items():
        writer = _ItemWriter(storage, draft.folder, name, parent, links=links)
        items[name] = writer.write(copy, digests)
        headers[name] = tuple(writer.headers)
        written += writer.written
    # All names of shards are durable before the manifest that relies on them.
    storage.sync_folder(draft.folder)
    manifest = replace(
        draft,
        items=items,
        nbytes=sum(item.nbytes for item in items.values()),
        stored_nbytes=written,
    )
    storage.publish(f"{draft.folder}/{names.MANIFEST}", [encode(manifest)])
    files = {shard.shard: shard.file for item in items.values() for shard in item.shards}
    return Committed(manifest, ParentShards(draft.folder, headers, files))


def _digest(snapshot: Snapshot) -> dict[int, tuple[str, bool]]:
    """Returns digest and finiteness of each array, keyed by the identity of its copy."""
    arrays = [array for item in snapshot.items.values() for array in item.arrays]
    # Longest first: no thread is left with a long one at the end.
    arrays.sort(key=lambda array: len(array.data), reverse=True)
    results = spread(_look_at, arrays, nbytes=lambda array: len(array.data), name="holdfast-hash")
    return {id(array): result for array, result in zip(arrays, results, strict=True)}


def _look_at(array: ArrayCopy) -> tuple[str, bool]:
    finite = all_finite(array.dtype, array.data, numbers=array.numbers)
    return blake3(array.data).hexdigest(), finite


class _ItemWriter:
    """Writes the shards of one item."""

    def __init__(
        self,
        storage: LocalStorage,
        folder: str,
        item: str,
        parent: ParentShards | None,
        *,
        links: bool,
    ) -> None:
        self._storage = storage
        self._folder = folder
        self._item = item
        self._parent = parent
        self._links = links
        self.headers: list[Header] = []
        self.written = 0

    def write(self, copy: ItemCopy, digests: Mapping[int, tuple[str, bool]]) -> StoredItem:
        """Links or writes the item's shards and its index; the folder is not synced."""
        entries = [
            TensorEntry(a.name, a.dtype, a.shape, digests[id(a)][0], len(a.data))
            for a in copy.arrays
        ]
        groups = group(
            entries,
            stable=frozenset(array.name for array in copy.arrays if array.stable),
            parent=self._parent.headers.get(self._item, ()) if self._parent else (),
        )
        data = {array.name: array.data for array in copy.arrays}
        shards = tuple(
            self._shard(members, copy.aliases, data, number, len(groups))
            for number, members in enumerate(groups, start=1)
        )
        weights = [array for array in copy.arrays if array.parameter] or copy.arrays
        return StoredItem(
            skeleton=copy.skeleton,
            shards=shards,
            nbytes=copy.nbytes,
            finite=all(digests[id(array)][1] for array in weights),
            parameters=any(array.parameter for array in copy.arrays),
            index=self._index(shards) if len(shards) > 1 else None,
        )

    def _shard(
        self,
        members: Sequence[TensorEntry],
        aliases: Mapping[str, str],
        data: Mapping[str, memoryview],
        number: int,
        count: int,
    ) -> StoredShard:
        prefix, header = encode_header(members, aliases_of(members, aliases))
        suffix = f"-{number:05d}-of-{count:05d}" if count > 1 else ""
        file = f"{self._item}{suffix}.safetensors"
        if not self._reuse(header, file):
            parts: list[Buffer] = [prefix, *(data[entry.name] for entry in header.tensors)]
            self._storage.publish(f"{self._folder}/{file}", parts, sync_folder=False)
            self.written += header.nbytes
            if self._links:
                self._offer(header.shard, file)
        self.headers.append(header)
        return StoredShard(file, header.shard, header.nbytes)

    def _reuse(self, header: Header, file: str) -> bool:
        """Links a shard that the store holds already, from under shards/ or from the parent."""
        if not self._links:
            return False
        sources = [names.shard_path(header.shard)]
        if self._parent and header.shard in self._parent.files:
            sources.append(f"{self._parent.folder}/{self._parent.files[header.shard]}")
        target = f"{self._folder}/{file}"
        for source in sources:
            if self._is_shard(source, header) and self._storage.link(source, target):
                return True
        return False

    def _is_shard(self, path: str, header: Header) -> bool:
        """Returns whether a file begins as the shard does; a damaged one is not spread further."""
        folder, _, file = path.rpartition("/")
        try:
            read_header(self._storage, folder, StoredShard(file, header.shard, header.nbytes))
        except (HoldfastError, FileNotFoundError):
            return False
        return True

    def _offer(self, shard: str, file: str) -> None:
        """Gives a new shard its name under shards/, for later saves to find.

        Nothing rests on that name, so it is not synced: its loss costs one more copy.
        """
        path = names.shard_path(shard)
        source = f"{self._folder}/{file}"
        self._storage.make_folder(path.rpartition("/")[0])
        try:
            self._storage.link(source, path)
        except FileExistsError:
            # The file there has all the names that the filesystem allows, or is cut short.
            self._storage.relink(source, path)

    def _index(self, shards: Sequence[StoredShard]) -> IndexFile:
        weight_map = {
            entry.name: shard.file
            for shard, header in zip(shards, self.headers, strict=True)
            for entry in header.tensors
        }
        total = sum(e.nbytes for header in self.headers for e in header.tensors)
        content = dump_strict(
            {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        )
        file = f"{self._item}.safetensors.index.json"
        nbytes = self._storage.publish(f"{self._folder}/{file}", [content], sync_folder=False)
        self.written += nbytes
        return IndexFile(file, nbytes, blake3(content).hexdigest())
