"""The lines that a run logs for people."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping

from holdfast.errors import ConfigError
from holdfast.model import CheckpointInfo, metric_mode, reason_code

_log = logging.getLogger("holdfast")

_UNITS = ("B", "kB", "MB", "GB", "TB")
_SHARES = frozenset({"accuracy", "acc"})


def saved(info: CheckpointInfo, *, best_before: Mapping[str, tuple[float, float]]) -> None:
    """Logs a new checkpoint, its metrics, and where it is better than all before it.

    Args:
        info: The checkpoint.
        best_before: Metric to lowest and highest value of the checkpoints before it.
    """
    _log.info("Checkpoint saved (%s): %s", inert(reason_code(info.reason)), info.id)
    if info.metrics:
        _log.info("  %s", metrics_line(info.metrics))
    for name, value in info.metrics.items():
        if _is_best(name, value, best_before.get(name)):
            _log.info("  New best! %s", metrics_line({name: value}))


def metrics_line(metrics: Mapping[str, float]) -> str:
    """Returns metrics as people write them: ``Loss: 0.2340, Accuracy: 78.50%``."""
    return ", ".join(f"{_title(name)}: {_number(name, value)}" for name, value in metrics.items())


def inert(value: object) -> str:
    """Returns a value's text with everything escaped that could drive a terminal or end a line.

    For what a store holds: whoever wrote it is not who reads the log.
    """
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(value))


def nbytes_text(nbytes: float) -> str:
    """Returns a number of bytes in decimal units: ``1.8GB``."""
    value = float(nbytes)
    for unit in _UNITS[:-1]:
        if abs(value) < 1000:
            return f"{value:.0f}{unit}" if unit == "B" else f"{value:.1f}{unit}"
        value /= 1000
    return f"{value:.1f}{_UNITS[-1]}"


def summary(run: str, lines: Iterable[str]) -> None:
    """Logs the closing summary of a run."""
    _log.info("Summary of %s", run)
    for line in lines:
        _log.info("  %s", line)


def _is_best(name: str, value: float, before: tuple[float, float] | None) -> bool:
    if not math.isfinite(value):
        return False
    try:
        mode = metric_mode(name)
    except ConfigError:
        # A metric of unknown direction has no best to speak of.
        return False
    if before is None:
        return True
    return value < before[0] if mode == "min" else value > before[1]


def _title(name: str) -> str:
    return inert(name[:1].upper() + name[1:])


def _number(name: str, value: float) -> str:
    word = name.replace("/", "_").replace("-", "_").rpartition("_")[2].lower()
    if word in _SHARES and 0 <= value <= 1:
        return f"{value:.2%}"
    return f"{value:.4f}" if abs(value) < 1e6 else f"{value:.4g}"
