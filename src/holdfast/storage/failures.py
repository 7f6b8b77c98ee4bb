"""What the system reports of a medium, as errors that say what to do."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Final

from holdfast.errors import SaveError, StorageFullError

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def failure_of(
    error: OSError, doing: str, *, needed: int, free: Callable[[], int], root: Path
) -> SaveError | StorageFullError:
    """Returns what to raise for a failed change of a store.

    Args:
        error: What the system said.
        doing: What was tried.
        needed: How many bytes it would have taken; 0 where that does not matter.
        free: Tells how many bytes can still be written.
        root: The store's folder.
    """
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        left = free()
        return StorageFullError(
            f"{doing} failed: {reason}; {left} bytes are free on {root}",
            hint="free some space or prune the store; earlier checkpoints are intact",
            needed=needed,
            free=left,
        )
    return SaveError(
        f"{doing} failed: {reason}", hint=f"check the medium and the permissions of {root}"
    )
