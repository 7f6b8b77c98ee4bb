"""Faults on purpose: system calls that fail, write half, or end the process at a chosen one."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn

from holdfast.storage.posix import Buffer, Posix

Action = Literal["fail", "tear", "crash"]

#: Every method of `Posix` that is a system call, or a loop of one.
CALLS: Final = (
    "create", "open_append", "write", "pwrite", "truncate", "make_buffered", "fsync", "close",
    "rename", "link", "unlink", "mkdir", "rmdir", "fsync_folder",
)  # fmt: skip

#: Errors to the calls that a medium answers with them: a full one still deletes, and a process
#: without descriptors still writes to those that it has.
FAILING: Final[Mapping[int, tuple[str, ...]]] = {
    errno.EIO: CALLS,
    errno.ENOSPC: (
        "create", "open_append", "write", "pwrite", "fsync", "rename", "link", "mkdir",
        "fsync_folder",
    ),
    errno.EDQUOT: ("create", "open_append", "write", "pwrite", "fsync", "rename", "link", "mkdir"),
    errno.EMFILE: ("create", "open_append", "fsync_folder"),
}  # fmt: skip

_SECTOR: Final = 4096


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, and when.

    Attributes:
        at: Number of the call, from 1; 0 for never.
        action: ``fail`` with an error, ``tear`` a write in two and end there, or ``crash`` before
            the call.
        error: The error's number, for ``fail``.
        lasting: Whether every later call fails, too.
        calls: Which calls are counted.
    """

    at: int
    action: Action = "crash"
    error: int = errno.EIO
    lasting: bool = False
    calls: Sequence[str] = CALLS


class Crashed(BaseException):
    """Stands for the end of the process; no handler of errors catches it."""


class FaultyPosix(Posix):
    """Real system calls, of which one goes wrong.

    Args:
        fault: What goes wrong; None to count only.
        crash: Ends the process, told the name of the call. Left out, `Crashed` is raised, by this
            call and every later one: a process that is dead does not tidy up.

    Attributes:
        count: Calls so far, of those that are counted.
        fired: Name of the call that went wrong; empty until then.
    """

    def __init__(
        self, fault: Fault | None = None, *, crash: Callable[[str], NoReturn] | None = None
    ) -> None:
        self.fault = fault or Fault(0)
        self.count = 0
        self.fired = ""
        self._crash = crash or _raise
        for name in CALLS:
            setattr(self, name, functools.partial(self._call, name, getattr(self, name)))

    def reach(self, name: str) -> None:
        """Counts a moment that is no system call, such as a step of a longer work.

        The process may end at it; there is nothing about it that could fail.
        """
        if self.fault.action != "fail":
            self._call(name, lambda: None)

    def _call(self, name: str, make: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        fault = self.fault
        if self.fired and fault.action != "fail":
            self._crash(name)
        if name in fault.calls or name not in CALLS:
            self.count += 1
            if self.count == fault.at or (fault.lasting and self.fired):
                self.fired = self.fired or name
                self._go_wrong(name, arguments)
        return make(*arguments, **options)

    def _go_wrong(self, name: str, arguments: tuple[Any, ...]) -> None:
        if self.fault.action != "fail":
            if self.fault.action == "tear":
                _write_half(name, arguments)
            self._crash(name)
        if name == "close":
            # A close that reports a failure has closed the descriptor all the same.
            os.close(arguments[0])
        raise OSError(self.fault.error, os.strerror(self.fault.error))


def _write_half(name: str, arguments: tuple[Any, ...]) -> None:
    if name == "write":
        parts: Sequence[Buffer] = arguments[1]
        data = b"".join(bytes(memoryview(part).cast("B")) for part in parts)
        os.write(arguments[0], data[: len(data) // 2])
    elif name == "pwrite":
        view = memoryview(arguments[1]).cast("B")
        half = len(view) // 2
        # Past the page cache, only whole sectors can be written.
        half -= half % _SECTOR if half > _SECTOR else 0
        if half and half % _SECTOR == 0:
            os.pwrite(arguments[0], view[:half], arguments[2])


def _raise(name: str) -> NoReturn:
    raise Crashed(name)
