"""System calls that are recorded, that fail, or that end the process: what the tests inject."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from holdfast.storage import Posix

CALLS = (
    "create", "open_append", "write", "pwrite", "truncate", "make_buffered", "fsync", "close",
    "rename", "link", "unlink", "mkdir", "rmdir", "fsync_folder",
)  # fmt: skip


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


def failing(call: str, code: int, *, times: int = 1) -> Posix:
    """Returns system calls of which one fails, the first times that it is made."""
    left = [times]

    def before(name, arguments):
        if name == call and left[0] > 0:
            left[0] -= 1
            if name == "close":
                # A close that reports a failure has closed the descriptor all the same.
                os.close(arguments[0])
            raise OSError(code, os.strerror(code))

    return WatchedPosix(before)


class Interrupted(BaseException):
    """Ends the code under test at once, as a kill does; no handler for errors catches it."""


def stopping_at(number: int) -> tuple[Posix, list[int]]:
    """Returns system calls that go no further than the n-th, and their count so far.

    From the n-th call on every call fails, so that no clean-up behind it does anything either:
    a killed process does not tidy up.
    """
    count = [0]

    def before(_name, _arguments):
        count[0] += 1
        if count[0] >= number:
            raise Interrupted

    return WatchedPosix(before), count


def without_links() -> Posix:
    """Returns the system calls of a medium that has no hard links."""
    return failing("link", errno.EPERM, times=1 << 30)
