"""One item of a checkpoint: which shards it has, and how they come into the checkpoint's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from blake3 import blake3

from holdfast.engine import names
from holdfast.engine.foreseen import Tell, entry_of, foresee, pieces_of
from holdfast.engine.grouping import aliases_of, group
from holdfast.engine.hashing import HashAhead
from holdfast.engine.layout import ArrayCopy
from holdfast.engine.manifest import IndexFile, Manifest, StoredItem, StoredShard
from holdfast.engine.reader import read_header
from holdfast.engine.sealed import dump_strict
from holdfast.engine.shardfile import Header, HeaderTemplate, TensorEntry
from holdfast.engine.snapshot import ItemCopy, Snapshot
from holdfast.errors import HoldfastError
from holdfast.storage import Draft, LocalStorage


@dataclass(frozen=True, slots=True)
class ParentShards:
    """What a save may reuse: the shards of the checkpoint before it.

    Attributes:
        folder: The parent's folder, relative to the store.
        headers: Item name to the headers of its shards.
        files: Shard name to its file in that folder.
        changed: Item name to the headers of shards that held what had changed in it; empty
            where that is not known.
        refused: Names of shards that must not be reused, wherever they are found.
    """

    folder: str
    headers: Mapping[str, tuple[Header, ...]]
    files: Mapping[str, str]
    changed: Mapping[str, tuple[HeaderTemplate, ...]] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()

    @classmethod
    def none(cls) -> ParentShards:
        """Returns what a first save has: nothing to reuse."""
        return cls("", {}, {})

    def distrusted(self) -> ParentShards:
        """Returns what a save may reuse after a parent that was found damaged: none of these."""
        return ParentShards("", {}, {}, refused=frozenset(self.files))

    @property
    def arrangement(self) -> dict[str, tuple[tuple[str, ...], ...]]:
        """Item name to the names of its arrays, shard by shard, in their order."""
        return {
            item: tuple(tuple(entry.name for entry in header.tensors) for header in headers)
            for item, headers in self.headers.items()
        }

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


class ItemWriter:
    """Writes one item of a checkpoint.

    Args:
        storage: The store's files.
        folder: The checkpoint's folder.
        item: The item's name.
        copy: Its state.
        parent: Shards that may be reused.
        links: Whether the medium has hard links.
        tell: Called as it gets on.

    Attributes:
        arrays: What has to be hashed, in the order in which it is needed.
        stored: What the manifest says of it; after `finish`.
        headers: Those of its shards; after `finish`.
        changed: The headers of the shards that hold what changed; after `finish`.
        written: Bytes written.
    """

    stored: StoredItem

    def __init__(
        self,
        storage: LocalStorage,
        folder: str,
        item: str,
        copy: ItemCopy,
        parent: ParentShards,
        *,
        links: bool,
        tell: Tell,
    ) -> None:
        self._storage = storage
        self._folder = folder
        self._copy = copy
        self._parent = parent
        self._links = links
        self._tell = tell
        self.item = item
        self.headers: list[Header] = []
        self.changed: tuple[HeaderTemplate, ...] = ()
        self.written = 0
        headers = parent.headers.get(item, ())
        before = {entry.name: entry.digest for header in headers for entry in header.tensors}
        self._foreseen = tuple(foresee(copy, parent.changed.get(item, ()), before))
        first = [array for shard in self._foreseen for array in shard.arrays]
        seen = set(first)
        self.arrays = [*first, *(array for array in copy.arrays if array not in seen)]

    def begin(self, snapshot: Snapshot, hashes: HashAhead[int]) -> None:
        """Writes what is foreseen, while it is being hashed."""
        for shard in self._foreseen:
            shard.write(self._storage, self._folder, snapshot, hashes, tell=self._tell)

    def finish(self, snapshot: Snapshot, hashes: HashAhead[int]) -> None:
        """Links or writes the item's shards and its index; the folder is not synced."""
        copy = self._copy
        found = {array: hashes[array] for array in copy.arrays}
        groups = group(
            [entry_of(array, found[array].digest) for array in copy.arrays],
            stable=frozenset(array.name for array in copy.arrays if array.stable),
            parent=self._parent.headers.get(self.item, ()),
        )
        every = groups.all
        for shard in self._foreseen:
            # Now, and not at the end: what is written next may need its room.
            if not any(shard.is_of(members) for members in every):
                shard.discard()
        made = [
            self._shard(members, snapshot, number, len(every))
            for number, members in enumerate(every, start=1)
        ]
        shards = tuple(shard for shard, _ in made)
        first = len(groups.kept) + len(groups.resting)
        self.changed = tuple(template for _, template in made[first:])
        weights = [array for array in copy.arrays if array.parameter] or copy.arrays
        self.stored = StoredItem(
            skeleton=copy.skeleton,
            shards=shards,
            nbytes=copy.nbytes,
            finite=all(found[array].finite for array in weights),
            parameters=any(array.parameter for array in copy.arrays),
            index=self._index(shards) if len(shards) > 1 else None,
        )

    def discard(self) -> None:
        """Removes what was foreseen and came to nothing."""
        for shard in self._foreseen:
            shard.discard()

    def _shard(
        self, members: Sequence[TensorEntry], snapshot: Snapshot, number: int, count: int
    ) -> tuple[StoredShard, HeaderTemplate]:
        foreseen = next((shard for shard in self._foreseen if shard.is_of(members)), None)
        aliases = aliases_of(members, self._copy.aliases)
        template = foreseen.template if foreseen else HeaderTemplate(members, aliases)
        digests = {entry.name: entry.digest for entry in members}
        prefix, header = template.fill([digests[entry.name] for entry in template.tensors])
        suffix = f"-{number:05d}-of-{count:05d}" if count > 1 else ""
        file = f"{self.item}{suffix}.safetensors"
        if not self._reuse(header, file):
            draft = foreseen.take() if foreseen else None
            self._write(draft or self._fresh(header, file, snapshot), prefix, file)
            self.written += header.nbytes
            if self._links:
                self._offer(header.shard, file)
        self.headers.append(header)
        return StoredShard(file, header.shard, header.nbytes), template

    def _write(self, draft: Draft, prefix: bytes, file: str) -> None:
        self._tell("syncing", 0)
        try:
            draft.fill_start(prefix)
            self._storage.publish_draft(draft, f"{self._folder}/{file}")
        except BaseException:
            draft.discard()
            raise

    def _fresh(self, header: Header, file: str, snapshot: Snapshot) -> Draft:
        """Returns a shard's file, written but for its header."""
        arrays: dict[str, ArrayCopy] = {array.name: array for array in self._copy.arrays}
        draft = self._storage.draft(
            self._folder, file, start=header.data_start, expected=header.nbytes
        )
        try:
            for view in snapshot.runs(arrays[entry.name] for entry in header.tensors):
                for piece in pieces_of(view):
                    draft.append(piece)
                    self._tell("writing", len(piece))
        except BaseException:
            draft.discard()
            raise
        return draft

    def _reuse(self, header: Header, file: str) -> bool:
        """Links a shard that the store holds already, from under shards/ or from the parent."""
        if not self._links or header.shard in self._parent.refused:
            return False
        sources = [names.shard_path(header.shard)]
        if header.shard in self._parent.files:
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
        self._storage.make_folder(path.rpartition("/")[0], durable=False)
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
        file = f"{self.item}.safetensors.index.json"
        nbytes = self._storage.publish(f"{self._folder}/{file}", [content], sync_folder=False)
        self.written += nbytes
        return IndexFile(file, nbytes, blake3(content).hexdigest())
