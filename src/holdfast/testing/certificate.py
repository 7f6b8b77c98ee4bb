"""What a certificate says: where the proof was run, what it explored, what it found."""

from __future__ import annotations

import os
import platform
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from holdfast import __version__
from holdfast.storage import Capabilities, probe
from holdfast.testing.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a proof was run.

    Attributes:
        path: The folder.
        holdfast: The version that was proven.
        python: The interpreter's version.
        kernel: System, release and machine.
        device: What is mounted there.
        mount_options: How.
        capabilities: What the place can do, its type of filesystem among it.
        root: Whether the proof was run by root, who may cut the power.
    """

    path: str
    holdfast: str
    python: str
    kernel: str
    device: str
    mount_options: str
    capabilities: Capabilities
    root: bool

    @classmethod
    def of(cls, folder: Path) -> Surroundings:
        """Describes a writable folder."""
        device, options = _mount_of(folder)
        return cls(
            path=str(folder),
            holdfast=__version__,
            python=platform.python_version(),
            kernel=f"{platform.system()} {platform.release()} {platform.machine()}",
            device=device,
            mount_options=options,
            capabilities=probe(folder),
            root=sys.platform != "win32" and os.geteuid() == 0,
        )


@dataclass(frozen=True, slots=True)
class Part:
    """One sweep of a proof.

    Attributes:
        title: What it does, for people.
        outcome: What it explored and found.
        seconds: How long it took.
    """

    title: str
    outcome: Outcome
    seconds: float


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a proof explored on one disk, and what it found.

    Attributes:
        surroundings: Where.
        quick: Whether it was the short form.
        at: When it was finished, seconds since the epoch.
        parts: Its sweeps, in order.
    """

    surroundings: Surroundings
    quick: bool
    at: float
    parts: tuple[Part, ...]

    @property
    def states(self) -> int:
        """How many states were explored in all."""
        return sum(part.outcome.states for part in self.parts)

    @property
    def violated(self) -> int:
        """In how many of them something that was promised did not hold."""
        return sum(part.outcome.violated for part in self.parts)

    @property
    def ok(self) -> bool:
        """Whether everything that was promised held in all of them."""
        return self.states > 0 and not self.violated

    @property
    def verdict(self) -> str:
        """The result as a sentence."""
        if self.violated:
            return f"{self.violated} of {self.states} states break a promise."
        return f"{self.states} states explored, 0 violations: every promise held in each of them."

    def facts(self) -> dict[str, str]:
        """Returns where the proof was run as names and texts, for people."""
        place, able = self.surroundings, self.surroundings.capabilities
        return {
            "path": place.path,
            "filesystem": f"{able.filesystem} on {place.device} ({place.mount_options})",
            "hard links": "yes" if able.hard_links else "no",
            "direct writes": "yes" if able.direct_alignment else "no",
            "kernel": place.kernel,
            "holdfast": f"{place.holdfast}, Python {place.python}",
            "time": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.at)),
            "form": "quick" if self.quick else "full",
        }

    def as_dict(self) -> dict[str, Any]:
        """Returns it as plain JSON values."""
        return {
            "ok": self.ok,
            "states": self.states,
            "violations": self.violated,
            "quick": self.quick,
            "at": self.at,
            "surroundings": asdict(self.surroundings),
            "parts": [
                {"title": part.title, "seconds": round(part.seconds, 1), **part.outcome.as_dict()}
                for part in self.parts
            ],
        }


def _mount_of(folder: Path) -> tuple[str, str]:
    """Returns the device and the options of the mount that holds a folder."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "unknown", "unknown"
    device = folder.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in lines.splitlines():
        left, _, right = line.partition(" - ")
        fields, source = left.split(), right.split()
        if fields[2:3] == [wanted]:
            options = ",".join(dict.fromkeys((*fields[5].split(","), *source[2].split(","))))
            return source[1], options
    return "unknown", "unknown"
