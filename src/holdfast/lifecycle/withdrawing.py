"""Taking damaged shards out of reach of later saves, without touching a checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Collection

from holdfast.engine import names
from holdfast.engine.manifest import StoredShard
from holdfast.engine.scanning import shard_files
from holdfast.errors import HoldfastError
from holdfast.lifecycle.place import Place
from holdfast.storage import identity

_log = logging.getLogger("holdfast")


def withdraw(place: Place, run: str, checkpoint_id: str, paths: Collection[str]) -> None:
    """Takes the names under shards/ of damaged files away, so that no save links them again.

    Only a further name of the very file goes: each checkpoint keeps what it has. A save judges a
    shard by its header and its length alone, and would hand the damage on.

    Args:
        place: The store, open for writing.
        run: The run of a checkpoint.
        checkpoint_id: The checkpoint.
        paths: Its damaged files, relative to the store.
    """
    try:
        files = shard_files(place.manifest(checkpoint_id)) if paths else {}
        for path in set(paths) & files.keys():
            if _withdraw(place, path, files[path]):
                _log.info("%s of %s is not reused any more", path, run)
    except HoldfastError as error:
        # Finding damage must not fail for a medium that does not let go of a name.
        _log.warning("damaged shards of %s may be reused by later saves: %s", run, error)


def _withdraw(place: Place, path: str, shard: StoredShard) -> bool:
    second = names.shard_path(shard.shard)
    own = identity(place.storage, path)
    # Two names of one file: the checkpoint's own is left.
    if own is None or identity(place.storage, second) != own:
        return False
    return place.storage.remove(second)
