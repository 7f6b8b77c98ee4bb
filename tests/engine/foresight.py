"""What makes a few kilobytes be saved as many megabytes are: foreseen, in pieces, directly."""

import numpy as np

from holdfast.engine import foreseen, grouping, spreading
from holdfast.storage import LocalStorage, draft, local

RESTING = 1024
FORESEEN = 3000


def shrink(monkeypatch):
    """Makes what needs megabytes happen within kilobytes: shards, pieces, batches for threads."""
    monkeypatch.setattr(foreseen, "MIN_RESTING_NBYTES", RESTING)
    monkeypatch.setattr(grouping, "MIN_RESTING_NBYTES", RESTING)
    monkeypatch.setattr(foreseen, "_MIN_NBYTES", FORESEEN)
    monkeypatch.setattr(foreseen, "_PIECE_NBYTES", 8192)
    monkeypatch.setattr(spreading, "_BATCH_NBYTES", 500)
    monkeypatch.setattr(local, "_DIRECT_NBYTES", 4096)
    monkeypatch.setattr(draft, "_STRAIGHT_NBYTES", 4096)
    monkeypatch.setattr(draft, "_GATHER_NBYTES", 8192)
    monkeypatch.setattr(draft, "_PIECE_NBYTES", 12_288)


def storage_at(folder, posix=None):
    storage = LocalStorage(folder, posix=posix)
    storage.direct = True
    return storage


def arrays(*, size=1000, **versions):
    """Returns arrays of so many numbers of 4 bytes, each filled with its version."""
    return {"model": {name: np.full(size, v, "<f4") for name, v in versions.items()}}


def leftovers(folder):
    """Returns files that are on their way, or that a save forgot."""
    return [path for path in folder.rglob("*") if path.name.startswith(".tmp-")]
