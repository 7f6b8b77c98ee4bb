"""System calls that are recorded, that fail, or that end the process: what the tests inject."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from holdfast.storage import Posix
from holdfast.storage.faults import CALLS, Fault, FaultyPosix


def names_in(folder: Path) -> list[str]:
    """Returns the names in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())


class WatchedPosix(Posix):
    """Real system calls; each is announced before it is made.

    Args:
        before: Called with the method's name and its arguments; what it raises takes the place
            of the call.
    """

    def __init__(self, before: Callable[[str, tuple[object, ...]], None]) -> None:
        for name in CALLS:
            setattr(self, name, _announced(getattr(self, name), name, before))


def _announced(call, name, before):
    def announced(*arguments, **options):
        before(name, arguments)
        return call(*arguments, **options)

    return announced


class Recorder:
    """Collects calls as lines such as ``rename .tmp-a a``: file names without their folders."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.posix = WatchedPosix(self._note)

    def _note(self, name, arguments):
        shown = [Path(a).name for a in arguments if isinstance(a, str)]
        self.lines.append(" ".join([name, *shown]))

    @property
    def names(self) -> list[str]:
        return [line.split()[0] for line in self.lines]


def failing(call: str, code: int, *, lasting: bool = False) -> FaultyPosix:
    """Returns system calls of which one fails, the first time that it is made or every time."""
    return FaultyPosix(Fault(1, "fail", code, lasting, (call,)))


def without_links(posix: Posix | None = None) -> Posix:
    """Returns system calls as those of a medium that has no hard links."""

    def refuse(_source, _target):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    posix = posix or Posix()
    posix.link = refuse
    return posix
