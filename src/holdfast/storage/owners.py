"""Who holds a lock: what its file says, and what the system knows of that process."""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

#: What a process that stopped is doing, in ``/proc/PID/stat``: by a signal, or by a debugger.
_STOPPED: Final = frozenset("Tt")
_DEAD: Final = frozenset("ZX")
_HOST_LENGTH: Final = 64

State = Literal["running", "stopped", "gone", "elsewhere"]


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that took a lock.

    Attributes:
        pid: Its process id.
        host: The machine that it runs on.
        since: When it took the lock, in seconds since the epoch.
    """

    pid: int
    host: str
    since: float

    @classmethod
    def here(cls) -> Owner:
        """Returns this process, as of now."""
        return cls(os.getpid(), socket.gethostname(), time.time())

    @classmethod
    def parse(cls, content: bytes) -> Owner | None:
        """Returns what a lock's file says; None where it says nothing that can be read."""
        try:
            owner = json.loads(content)
            since = float(owner["since"])
            # A time that no calendar has would be told to nobody.
            datetime.fromtimestamp(since, UTC)
            return cls(int(owner["pid"]), str(owner["host"])[:_HOST_LENGTH], since)
        except (ValueError, KeyError, TypeError, OverflowError, OSError):
            return None

    def encode(self) -> bytes:
        """Returns what the lock's file says of it."""
        members = {"pid": self.pid, "host": self.host, "since": self.since}
        return json.dumps(members).encode() + b"\n"

    def __str__(self) -> str:
        return f"pid {self.pid} on {self.host}"

    @property
    def began(self) -> str:
        """Since when it holds the lock, for people."""
        return datetime.fromtimestamp(self.since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")

    @property
    def state(self) -> State:
        """What it is doing, as far as this machine can tell."""
        if self.host != socket.gethostname()[:_HOST_LENGTH] or not os.path.isdir("/proc/self"):
            return "elsewhere"
        letter = _letter(self.pid)
        if letter is None or letter in _DEAD:
            return "gone"
        return "stopped" if letter in _STOPPED else "running"


def describe(owner: Owner | None) -> str:
    """Returns an owner for a message."""
    return "a process that left no name" if owner is None else str(owner)


def explain(owner: Owner | None) -> tuple[str, str]:
    """Returns who holds a lock and since when, as the end of a sentence, and what to do."""
    hint = "stop that process, or open the run with if_exists='new'"
    if owner is None:
        return describe(owner), hint
    text = f"{owner} since {owner.began}"
    if owner.state == "stopped":
        text += ", and that process is stopped"
        hint = (
            f"`kill -CONT {owner.pid}` lets it go on, `kill -KILL {owner.pid}` ends it; nobody can "
            "take its lock while it lives, but if_exists='new' opens another run"
        )
    elif owner.state == "gone":
        text += ", which is gone: another process has its lock"
        hint = (
            "it runs in another container, or left a child behind: `fuser` names the processes "
            "that have the lock's file open"
        )
    return text, hint


def _letter(pid: int) -> str | None:
    """Returns the state of a process as the kernel writes it; None where there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # Its name stands in parentheses and may hold any byte.
            return file.read().rpartition(b") ")[2][:1].decode("ascii", "replace")
    except OSError:
        return None
