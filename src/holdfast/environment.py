"""What it takes to reproduce a run besides its state: versions, hardware, commit, command line."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Final

_GIT_TIMEOUT_S: Final = 5
#: Versions worth knowing at every opening; `finish` notes all packages.
_PACKAGES: Final = ("holdfast", "numpy", "torch", "jax", "safetensors", "blake3")


def describe() -> dict[str, object]:
    """Returns what is cheap to find out and worth comparing from one opening to the next."""
    return {
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "git": _git(),
        "command": list(sys.argv),
        "folder": str(Path.cwd()),
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }


def describe_fully(seeds: Mapping[str, object]) -> dict[str, object]:
    """Returns all that `describe` does, every installed package, hardware, and seeds.

    Args:
        seeds: Seeds that the caller knows; `PYTHONHASHSEED` is added.
    """
    packages = {dist.name: dist.version for dist in metadata.distributions() if dist.name}
    return {
        **describe(),
        "packages": dict(sorted(packages.items(), key=lambda pair: pair[0].lower())),
        "hardware": _hardware(),
        "seeds": {"PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED"), **seeds},
    }


def differences(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """Returns one sentence per version or commit that differs between two descriptions."""
    lines = []
    if before.get("python") != after.get("python"):
        lines.append(f"Python {before.get('python')} is now {after.get('python')}")
    old, new = _mapping(before.get("packages")), _mapping(after.get("packages"))
    lines.extend(
        f"{name} {old[name]} is now {new.get(name, 'not installed')}"
        for name in _PACKAGES
        if name in old and old.get(name) != new.get(name)
    )
    old, new = _mapping(before.get("git")), _mapping(after.get("git"))
    if old.get("commit") != new.get("commit"):
        lines.append(f"commit {old.get('commit', 'none')} is now {new.get('commit', 'none')}")
    return lines


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git() -> dict[str, object] | None:
    """Returns commit and cleanliness of the working folder; None outside a repository."""
    commit = _ask_git("rev-parse", "HEAD")
    if commit is None:
        return None
    return {
        "commit": commit,
        "branch": _ask_git("rev-parse", "--abbrev-ref", "HEAD"),
        "dirty": bool(_ask_git("status", "--porcelain", "--untracked-files=no")),
    }


def _ask_git(*arguments: str) -> str | None:
    # Without optional locks: `git status` would lock the index to refresh it, and a training that
    # is killed at that moment would leave the lock behind in the user's repository.
    try:
        done = subprocess.run(  # noqa: S603 - fixed words only
            ["git", "--no-optional-locks", *arguments],  # noqa: S607 - whichever git the user has
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _hardware() -> dict[str, object]:
    return {
        "machine": platform.machine(),
        "system": platform.platform(),
        "processor": _processor(),
        "processors": os.cpu_count(),
        "memory_nbytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "accelerators": _accelerators(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor())


def _accelerators() -> list[str]:
    try:
        found = sorted(Path("/proc/driver/nvidia/gpus").iterdir())
        return [
            line.partition(":")[2].strip()
            for gpu in found
            for line in (gpu / "information").read_text(encoding="utf-8").splitlines()
            if line.startswith("Model")
        ]
    except OSError:
        return []
