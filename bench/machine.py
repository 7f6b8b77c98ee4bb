"""What was measured on what: machine, versions, time."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

_PACKAGES = (
    "holdfast", "torch", "safetensors", "orbax-checkpoint", "jax", "torch_checkpointing",
    "lightning", "numpy", "blake3",
)  # fmt: skip


def describe(folder: Path, arguments: Sequence[str]) -> dict[str, str]:
    """Returns what a reader needs to judge the figures, in the order in which to say it."""
    from bench.ways_save import free_memory

    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": " ".join(["python -m bench", *arguments]),
        "processor": f"{_cpu_model()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{memory / 2**30:.0f} GiB, {free_memory() / 2**30:.0f} GiB free",
        "kernel": f"{platform.system()} {platform.release()}",
        "filesystem": _filesystem(folder),
        "load before": f"{load} (1, 5 and 15 minutes)",
        "versions": f"Python {platform.python_version()}, {', '.join(_versions())}",
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _filesystem(folder: Path) -> str:
    """Returns type and options of what a folder is on."""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, point, this, options, *_ = line.split()
        inside = folder.resolve().is_relative_to(point)
        if inside and len(point) >= len(best):
            best, kind = point, f"{this} ({options})"
    return kind


def _versions() -> list[str]:
    found = []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    return found
