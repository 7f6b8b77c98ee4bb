"""Doing a piece of work in a child process that may fail or end, and looking at what is left."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

from holdfast.errors import HoldfastError
from holdfast.storage.faults import Fault, FaultyPosix
from holdfast.testing.scenario import Scenario, ViolationError, copy_store

KILLED: Final = 9
#: The work failed with an error of ours, which is how a fault of the medium is told.
REFUSED: Final = 10
_BROKEN: Final = 11


class Bench:
    """Where a scenario is done and disturbed again and again.

    Args:
        scenario: The work.
        folder: An empty folder, on the medium that is to be proven.
        medium: Makes the system calls; a test passes some of which one does nothing.
        root: Where the store is, instead of within `folder`.
        ending: What happens just before the work is ended.
    """

    def __init__(
        self,
        scenario: Scenario,
        folder: Path,
        *,
        medium: type[FaultyPosix] = FaultyPosix,
        root: Path | None = None,
        ending: Callable[[], None] = lambda: None,
    ) -> None:
        self.scenario = scenario
        self.root = root or folder / "store"
        self._medium = medium
        self._ending = ending
        self._start = folder / "start"
        self._said = folder / "promised"
        self._fired = folder / "fired"
        self._told = folder / "told"
        self._first = tuple(scenario.prepare(self._start))

    def fresh(self) -> None:
        """Puts the store back to where the work starts."""
        shutil.rmtree(self.root, ignore_errors=True)
        if self._start.exists():
            copy_store(self._start, self.root)
        self._said.write_text("".join(f"{line}\n" for line in self._first))
        self._fired.write_text("0 ")
        self._told.write_text("")

    @property
    def promised(self) -> list[str]:
        """What is promised by now."""
        return self._said.read_text().splitlines()

    def disturb(self, fault: Fault) -> tuple[int, str, int]:
        """Does the work in a child, from a fresh start, with a fault.

        Returns:
            The child's status (0, `KILLED` or `REFUSED`), the call that the fault met (empty where
            it met none), and how many calls there were.

        Raises:
            ViolationError: The work ended in another way.
        """
        self.fresh()
        return self.go_on(fault)

    def go_on(self, fault: Fault) -> tuple[int, str, int]:
        """Does what `disturb` does, from where the last one ended."""
        status = in_child(lambda: self._work(fault), self._told)
        if status not in (0, KILLED, REFUSED):
            raise ViolationError(
                f"the work ended with status {status}: {self._told.read_text()[-800:]}"
            )
        count, _, call = self._fired.read_text().partition(" ")
        return status, call, int(count)

    def check(self) -> None:
        """Looks at what is left.

        Raises:
            ViolationError: Something that was promised does not hold.
        """
        self.scenario.check(self.root, self.promised)

    def _work(self, fault: Fault) -> None:
        # Several threads may come to their end at once: the first one says where.
        last_words = threading.Lock()

        def die(name: str) -> NoReturn:
            last_words.acquire()
            try:
                self._ending()
                self._fired.write_text(f"{posix.count} {posix.fired or name}")
            finally:
                os._exit(KILLED)

        def promise(line: str) -> None:
            _say(said.fileno(), line)
            if fault.action != "fail":
                # The caller has been told, and nothing was done since: the moment that counts.
                posix.reach("promise")

        posix = self._medium(fault, crash=die)
        try:
            with self._said.open("a") as said:
                self.scenario.act(self.root, posix, promise)
        finally:
            last_words.acquire()
            self._fired.write_text(f"{posix.count} {posix.fired}")


def _say(fd: int, line: str) -> None:
    # Whole at once, and not through the medium under test: the file stands for the caller's mind.
    os.write(fd, f"{line}\n".encode())


def in_child(work: Callable[[], None], told: Path) -> int:
    """Does something in a forked child and returns its exit status; negative for a signal.

    Args:
        work: What to do.
        told: Where the child writes what went wrong.
    """
    child = os.fork()
    if child == 0:
        os._exit(_status_of(work, told))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _status_of(work: Callable[[], None], told: Path) -> int:
    try:
        work()
    except HoldfastError as error:
        told.write_text(f"{type(error).__name__}: {error}")
        return REFUSED
    except BaseException:  # noqa: BLE001 - told to the parent, in full
        told.write_text(traceback.format_exc())
        sys.stderr.flush()
        return _BROKEN
    return 0


def judged(check: Callable[[], None]) -> str:
    """Returns what is wrong by a check: an empty string where nothing is."""
    try:
        check()
    except Exception as error:  # noqa: BLE001 - any error while recovering is a violation
        return f"{type(error).__name__}: {error}"
    return ""
