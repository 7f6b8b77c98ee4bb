"""The proof: work on a store that is ended, failed and cut off at every step, and what must hold.

`holdfast certify` runs it on the user's own disk; the tests run the same sweeps and more. Whoever
writes a storage backend, or tests a program against a failing medium, finds here what it takes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.storage.faults import Fault, FaultyPosix
    from holdfast.storage.recording import RecordingPosix
    from holdfast.testing.conformance import StorageConformance

__all__ = ["StorageConformance", "FaultyPosix", "Fault", "RecordingPosix"]

_HOMES = {
    "StorageConformance": "holdfast.testing.conformance",
    "FaultyPosix": "holdfast.storage.faults",
    "Fault": "holdfast.storage.faults",
    "RecordingPosix": "holdfast.storage.recording",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "StorageConformance":
        # Only here, for pytest is no dependency of the library; its assertions explain themselves.
        import pytest

        for part in ("conformance", "lookups", "outages"):
            pytest.register_assert_rewrite(f"holdfast.testing.{part}")
    return getattr(import_module(_HOMES[name]), name)
