"""Signals that ask a run to end, noted for its next step."""

from __future__ import annotations

import _thread
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

_log = logging.getLogger("holdfast")

Handler = Callable[[int, FrameType | None], Any] | int | None


class SignalWatch:
    """Notes signals, and then does what was done about them before.

    Nothing is saved inside a handler: Python runs it between two instructions of the training,
    where the state may be half a step old.

    Attributes:
        preempted: Whether one of the ending signals came.
        interrupted: Whether Ctrl-C came, and waits for the next step.
        heard: Whether the loop was told of it since.

    Args:
        preempting: Names without ``SIG``: ``("TERM",)``.
        interrupting: Whether Ctrl-C waits for the next step; a second one does not.
    """

    def __init__(self, preempting: Iterable[str], *, interrupting: bool) -> None:
        self.preempted = False
        self.interrupted = False
        self.heard = False
        self._name = ""
        self._came_at = 0.0
        self._closed = False
        self._warned = False
        self._before: dict[int, Handler] = {}
        self._unheard: list[int] = []
        self._pid = os.getpid()
        wanted: dict[int, Callable[[int, FrameType | None], None]] = {
            signal.Signals[f"SIG{name}"]: self._preempt for name in preempting
        }
        if interrupting:
            wanted[signal.SIGINT] = self._interrupt
        if wanted and threading.current_thread() is not threading.main_thread():
            _log.warning("signals are not watched: the run was opened outside the main thread")
            wanted = {}
        for number, handler in wanted.items():
            self._before[number] = _at_work(number, signal.getsignal(number))
            signal.signal(number, handler)

    @property
    def waited_s(self) -> float:
        """Seconds since the first ending signal; 0 before it."""
        return time.monotonic() - self._came_at if self.preempted else 0.0

    @property
    def name(self) -> str:
        """Name of the first ending signal."""
        return self._name

    def warn_if_replaced(self) -> None:
        """Warns once where somebody has put another handler in the place of this one's."""
        if self._warned:
            return
        ours = (self._preempt, self._interrupt)
        for number in self._before:
            handler = signal.getsignal(number)
            if handler not in ours and not isinstance(_owner(handler), SignalWatch):
                self._warned = True
                _log.warning(
                    "another handler for %s was installed after the run was opened: unless it "
                    "calls the one before it, the run does not see the signal",
                    signal.Signals(number).name,
                )

    def close(self) -> None:
        """Puts the handlers back that were there before, where nobody replaced ours since."""
        self._closed = True
        if threading.current_thread() is not threading.main_thread():
            return
        for number in self._before:
            if signal.getsignal(number) in (self._preempt, self._interrupt):
                before = _at_work(number, self._before[number])
                signal.signal(number, signal.SIG_DFL if before is None else before)

    def pass_on(self) -> None:
        """Lets a signal do what it does by itself, where it came too late for the loop to hear.

        After `close`: what the run promised is durable. A handler that was there before had the
        signal when it came.
        """
        if self.heard or threading.current_thread() is not threading.main_thread():
            return
        unheard, self._unheard = self._unheard, []
        for number in unheard:
            if signal.getsignal(number) == signal.SIG_DFL:
                signal.raise_signal(number)

    def before(self, number: int) -> Handler:
        """Returns what was done about a signal before this watch."""
        return self._before.get(number)

    @property
    def idle(self) -> bool:
        """Whether it watches no longer: it was closed, or belongs to the process before a fork."""
        return self._closed or os.getpid() != self._pid

    def _preempt(self, number: int, frame: FrameType | None) -> None:
        before = _at_work(number, self._before.get(number))
        if self.idle:
            # A forked data-loader worker: the signal is meant for it alone, and it has no run.
            _die_as_before(number, frame, before)
            return
        if not self.preempted:
            self._came_at = time.monotonic()
            self._name = signal.Signals(number).name
            self._unheard.append(number)
            self.preempted = True
            _tell("%s: the next step saves and then asks to stop", self._name)
        if callable(before):
            before(number, frame)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.idle or self.interrupted:
            _die_as_before(number, frame, _at_work(number, self._before.get(number)))
            return
        self.interrupted = True
        _tell("%s: the next step saves and then stops; press again to stop at once", "Ctrl-C")


def _tell(message: str, name: str) -> None:
    """Logs from a thread of its own: a handler may have come in the middle of a line of the log.

    Not by `threading`, whose own lock may be held by what the handler came into. Without a thread
    to be had, the next step says the same.
    """
    with contextlib.suppress(RuntimeError):
        _thread.start_new_thread(_log.warning, (message, name))


def _owner(handler: object) -> object:
    return getattr(handler, "__self__", None)


def _at_work(number: int, handler: Handler) -> Handler:
    """Returns a handler, or the one before it where it is that of a watch that watches no longer.

    A closed one stays in the chain under those that came later; that of a parent comes along
    with a fork.
    """
    while isinstance(watch := _owner(handler), SignalWatch) and watch.idle:
        handler = watch.before(number)
    return handler


def _die_as_before(number: int, frame: FrameType | None, before: Handler) -> None:
    if callable(before):
        before(number, frame)
    elif before != signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
