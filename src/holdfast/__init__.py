"""Holdfast: the checkpoint manager for training runs.

The names here are the whole public interface; each is imported when it is first used, so that
``import holdfast`` stays fast and brings in no numpy, SQL or framework.

What happens is logged by the logger ``holdfast``. It has no handler of its own, and no null
handler either: where the application sets none up, Python itself shows warnings and errors, so
that a failing save is never silent.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast import keep, stop, when
    from holdfast.checkpoint import Checkpoint
    from holdfast.engine.background import Pending
    from holdfast.errors import (
        ConfigError,
        FormatError,
        HoldfastError,
        IntegrityError,
        LockedError,
        MetricError,
        NotFoundError,
        SaveError,
        StorageFullError,
        TreeError,
    )
    from holdfast.manager import (
        get_checkpoint_manager,
        load_best_checkpoint,
        save_checkpoint,
    )
    from holdfast.model import CheckpointInfo, Moment, Plan, Verdict
    from holdfast.presets import preset
    from holdfast.run import Run
    from holdfast.store import Store, open
    from holdfast.strategy import CheckpointStrategy
    from holdfast.testing.certifying import certify

__version__ = "0.1.0"

_HOMES = {
    "open": "store",
    "Store": "store",
    "Run": "run",
    "Checkpoint": "checkpoint",
    "Pending": "engine.background",
    "CheckpointInfo": "model",
    "Moment": "model",
    "Plan": "model",
    "Verdict": "model",
    "CheckpointStrategy": "strategy",
    "preset": "presets",
    "save_checkpoint": "manager",
    "load_best_checkpoint": "manager",
    "get_checkpoint_manager": "manager",
    "certify": "testing.certifying",
    "HoldfastError": "errors",
    "ConfigError": "errors",
    "MetricError": "errors",
    "TreeError": "errors",
    "NotFoundError": "errors",
    "LockedError": "errors",
    "StorageFullError": "errors",
    "SaveError": "errors",
    "IntegrityError": "errors",
    "FormatError": "errors",
}
_MODULES = ("when", "keep", "stop")

__all__ = [
    "open", "when", "keep", "stop", "preset",
    "Store", "Run", "Checkpoint", "CheckpointInfo", "CheckpointStrategy",
    "Moment", "Verdict", "Plan", "Pending",
    "save_checkpoint", "load_best_checkpoint", "get_checkpoint_manager",
    "certify",
    "HoldfastError", "ConfigError", "MetricError", "TreeError", "NotFoundError", "LockedError",
    "StorageFullError", "SaveError", "IntegrityError", "FormatError",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"holdfast.{name}")
    if name in _HOMES:
        value = getattr(importlib.import_module(f"holdfast.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'holdfast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
