"""Signals that ask a run to end, noted for its next step."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

_log = logging.getLogger("holdfast")

Handler = Callable[[int, FrameType | None], Any] | int | None


class SignalWatch:
    """Notes signals, and then does what was done about them before.

    Attributes:
        preempted: Whether one of the ending signals came.
        interrupted: Whether Ctrl-C came, and waits for the next step.

    Args:
        preempting: Names without ``SIG``: ``("TERM",)``.
        interrupting: Whether Ctrl-C waits for the next step; a second one does not.
    """

    def __init__(self, preempting: Iterable[str], *, interrupting: bool) -> None:
        self.preempted = False
        self.interrupted = False
        self._before: dict[int, Handler] = {}
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
            self._before[number] = signal.getsignal(number)
            signal.signal(number, handler)

    def close(self) -> None:
        """Puts the handlers back that were there before, where nobody replaced ours since."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number, before in self._before.items():
            if signal.getsignal(number) in (self._preempt, self._interrupt):
                signal.signal(number, signal.SIG_DFL if before is None else before)
        self._before.clear()

    def _preempt(self, number: int, frame: FrameType | None) -> None:
        before = self._before.get(number)
        if os.getpid() != self._pid:
            # A forked data-loader worker: the signal is meant for it alone, and it has no run.
            _die_as_before(number, frame, before)
            return
        if not self.preempted:
            self.preempted = True
            _log.warning(
                "%s: the next step saves and then asks to stop", signal.Signals(number).name
            )
        if callable(before):
            before(number, frame)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid or self.interrupted:
            _die_as_before(number, frame, self._before.get(number))
            return
        self.interrupted = True
        _log.warning("Ctrl-C: the next step saves and then stops; press again to stop at once")


def _die_as_before(number: int, frame: FrameType | None, before: Handler) -> None:
    if callable(before):
        before(number, frame)
    elif before != signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
