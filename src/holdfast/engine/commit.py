"""A save: from a snapshot to a durable checkpoint, in the order that docs/format.md demands."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace

from holdfast.engine import names
from holdfast.engine.foreseen import Tell
from holdfast.engine.hashing import HashAhead
from holdfast.engine.itemwriter import ItemWriter, ParentShards
from holdfast.engine.manifest import Manifest, encode
from holdfast.engine.snapshot import Snapshot
from holdfast.storage import LocalStorage


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
    journal: Callable[[], int] = lambda: 0,
    tell: Tell = lambda phase, nbytes: None,
) -> Committed:
    """Makes a checkpoint exist; on return it survives any crash.

    Args:
        storage: The store's files.
        draft: The manifest but for its items and byte counts. Its folder exists, is empty, and
            its name becomes durable by `journal`.
        snapshot: The state. It is not given back here.
        parent: Shards that may be reused.
        links: Whether the medium has hard links.
        journal: Makes what the manifest relies on durable, and returns the length of the journal
            by then. Called by another thread, while the shards are written.
        tell: Called as it gets on: what it does now, and how many bytes more are written.

    Raises:
        StorageFullError, SaveError: The medium failed. There is no manifest; `discard` removes
            what was written.
    """
    parent = parent or ParentShards.none()
    tell("copying", 0)
    snapshot.wait()
    tell("writing", 0)
    writers = [
        ItemWriter(storage, draft.folder, name, copy, parent, links=links, tell=tell)
        for name, copy in snapshot.items.items()
    ]
    with ExitStack() as stack:
        arrays = [array for writer in writers for array in writer.arrays]
        hashes = stack.enter_context(HashAhead(arrays, alongside=journal))
        for writer in writers:
            stack.callback(writer.discard)
        for writer in writers:
            writer.begin(snapshot, hashes)
        for writer in writers:
            writer.finish(snapshot, hashes)
        journal_nbytes = hashes.beside
    # Asked last: nothing of the snapshot is read from here on.
    snapshot.require_whole()
    tell("publishing", 0)
    # All names of shards are durable before the manifest that relies on them.
    storage.sync_folder(draft.folder)
    items = {writer.item: writer.stored for writer in writers}
    manifest = replace(
        draft,
        journal_nbytes=journal_nbytes,
        items=items,
        nbytes=sum(item.nbytes for item in items.values()),
        stored_nbytes=sum(writer.written for writer in writers),
    )
    storage.publish(f"{draft.folder}/{names.MANIFEST}", [encode(manifest)])
    shards = ParentShards(
        draft.folder,
        {writer.item: tuple(writer.headers) for writer in writers},
        {shard.shard: shard.file for item in items.values() for shard in item.shards},
        {writer.item: writer.changed for writer in writers},
    )
    return Committed(manifest, shards)
