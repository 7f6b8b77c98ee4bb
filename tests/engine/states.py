"""What the tests of the engine share: states of numpy arrays, saved and read without a run."""

from __future__ import annotations

import numpy as np

from holdfast import tree
from holdfast.engine import names, reader, scanning
from holdfast.engine.commit import Committed, commit
from holdfast.engine.itemwriter import ParentShards
from holdfast.engine.manifest import Manifest
from holdfast.engine.snapshot import Snapshots
from holdfast.storage import LocalStorage

RUN = "study/cnn"
START = 1_761_920_730.0
#: Large enough for what rests to get a shard of its own.
RESTING = 20_000


def state(step, *, frozen=1.0):
    """Returns the items of a small training at a step; the encoder rests."""
    return {
        "model": {
            "encoder": np.full(RESTING, frozen, "<f4"),
            "head": np.arange(100, dtype="<f8") + step,
            "bias": np.array([step], "<f2"),
        },
        "optimizer": {"step": step, "moments": [np.full(50, step, "<f4")]},
    }


def draft(number, *, run=RUN, **changes):
    return Manifest(
        id=names.make_id(run, START + number, 1),
        run=run,
        step=number,
        created_at=START + number,
        reason="manual",
        items={},
        **changes,
    )


def save(storage, number, items, *, run=RUN, parent=None, links=True) -> Committed:
    """Saves items as the checkpoint of a step."""
    planned = draft(number, run=run)
    storage.make_folder(planned.folder)
    flats = {name: tree.flatten(value) for name, value in items.items()}
    snapshot = Snapshots().take(flats)
    try:
        return commit(storage, planned, snapshot, parent=parent, links=links)
    finally:
        snapshot.release()


def save_several(storage, count, **options):
    """Saves steps 0, 1, ... one after another, each reusing what the one before it wrote."""
    made, parent = [], None
    for number in range(count):
        committed = save(storage, number, state(number), parent=parent, **options)
        made.append(committed.manifest)
        parent = committed.shards
    return made


def ids(storage, run=RUN):
    """Returns the ids of the checkpoints that exist."""
    folder = names.folder_of_run(run)
    return [
        name
        for name in storage.folders(folder)
        if storage.size(f"{folder}/{name}/{names.MANIFEST}") is not None
    ]


def load(storage: LocalStorage, checkpoint_id, *, run=RUN):
    """Reads a checkpoint from its files alone: item to array name to bytes."""
    manifest = reader.read_manifest(storage, run, checkpoint_id)
    loaded = {}
    for item in manifest.items:
        located = reader.locate(storage, manifest, item)
        buffers = {name: bytearray(place.entry.nbytes) for name, place in located.items()}
        wanted = [(located[name], memoryview(data)) for name, data in buffers.items()]
        reader.read_tensors(storage, wanted)
        loaded[item] = {name: bytes(data) for name, data in buffers.items()}
    return loaded


def expected(items):
    """Returns what `load` must give for items."""
    result = {}
    for item, value in items.items():
        flat = tree.flatten(value)
        buffers = {name: bytearray(leaf.nbytes) for name, leaf in flat.leaves.items()}
        flat.copy_into({name: memoryview(data) for name, data in buffers.items()})
        result[item] = {name: bytes(data) for name, data in buffers.items()}
    return result


def problems(storage, manifest):
    return list(scanning.verify(storage, manifest, progress=lambda _: None))


def parent_of(storage, manifest):
    return ParentShards.read(storage, manifest)
