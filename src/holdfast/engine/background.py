"""One thread that makes saves durable while training goes on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Final, Generic, Literal, TypeVar

from holdfast.errors import HoldfastError, SaveError

_log = logging.getLogger("holdfast")

T = TypeVar("T")
Backlog = Literal["wait", "skip", "latest"]

_IDLE_S: Final = 1.0


class Pending(Generic[T]):
    """A save on its way.

    It is durable once `wait` has returned; before that the checkpoint is whole or invisible.
    """

    def __init__(self) -> None:
        self._done = threading.Event()
        self._result: T | None = None
        self._error: HoldfastError | None = None

    def wait(self, timeout: float | None = None) -> T:
        """Waits until the checkpoint is durable and returns it.

        Args:
            timeout: Seconds to wait at most; None waits as long as it takes.

        Raises:
            SaveError, StorageFullError: The save failed; the checkpoints before it are intact.
            TimeoutError: It is not durable yet; it goes on.
        """
        if not self._done.wait(timeout):
            raise TimeoutError(f"the save is not durable after {timeout} s; it goes on")
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]  # set together with the event

    def done(self) -> bool:
        """Returns whether it is durable or has failed."""
        return self._done.is_set()

    def exception(self) -> HoldfastError | None:
        """Returns why the save failed, or None; None, too, while it is under way."""
        return self._error

    def succeed(self, result: T) -> None:
        """Marks the save as durable; for the writer alone."""
        self._result = result
        self._done.set()

    def fail(self, error: HoldfastError) -> None:
        """Marks the save as failed; for the writer alone."""
        self._error = error
        self._done.set()


class Job(Generic[T]):
    """Work for the thread.

    Args:
        work: Returns the result; a `HoldfastError` fails the job, and so does anything else.
        settle: Called with the error, or None, before the pending is: for counting and logging.
        drop: Called when the job is replaced before it began.
    """

    def __init__(
        self,
        work: Callable[[], T],
        *,
        settle: Callable[[HoldfastError | None], None],
        drop: Callable[[], None],
    ) -> None:
        self.pending: Pending[T] = Pending()
        self._work = work
        self._settle = settle
        self._drop = drop

    def run(self) -> None:
        """Does the work and settles the pending; never raises."""
        try:
            result = self._work()
        except HoldfastError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - carried to whoever waits, as its cause
            wrapped = SaveError(
                f"the save failed: {type(error).__name__}: {error}",
                hint="this looks like a defect in Holdfast: please report it",
            )
            wrapped.__cause__ = error
            self._fail(wrapped)
        else:
            self._tell(None)
            self.pending.succeed(result)

    def replace(self, by: str) -> None:
        """Gives the job up before it began."""
        self._drop()
        self.pending.fail(SaveError(f"the save was replaced by {by}", hint="backlog='latest'"))

    def _fail(self, error: HoldfastError) -> None:
        self._tell(error)
        self.pending.fail(error)

    def _tell(self, error: HoldfastError | None) -> None:
        try:
            self._settle(error)
        except Exception:  # noqa: BLE001 - logged with its trace; the thread goes on
            # Whoever waits must hear of the save itself, and the thread go on.
            _log.exception("taking note of a save failed")


class Worker:
    """The thread, with a queue of at most one job besides the one under way.

    Args:
        name: The thread's name.
        idle: Called about once a second while there is nothing to do.
    """

    def __init__(self, name: str, *, idle: Callable[[], None]) -> None:
        self._idle = idle
        self._state = threading.Condition()
        # Each changes by one assignment: Ctrl-C between two lines leaves nothing to wait for.
        self._queued: Job[Any] | None = None
        self._running = False
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether a job is under way or queued."""
        with self._state:
            return self._is_busy()

    def submit(self, job: Job[Any]) -> None:
        """Queues a job, behind one that another thread has queued meanwhile."""
        with self._state:
            self._state.wait_for(lambda: self._queued is None)
            self._queued = job
            self._state.notify_all()

    def drop_queued(self, *, label: str) -> None:
        """Gives up the job that has not begun, if there is one.

        Args:
            label: What replaces it, for its `Pending`.
        """
        with self._state:
            dropped, self._queued = self._queued, None
            self._state.notify_all()
        if dropped is not None:
            dropped.replace(label)

    def drain(self, timeout: float | None = None) -> bool:
        """Waits until nothing is under way; returns False when that took too long."""
        with self._state:
            return self._state.wait_for(lambda: not self._is_busy(), timeout)

    def stop(self) -> None:
        """Finishes what is queued and ends the thread."""
        with self._state:
            self._stopping = True
            self._state.notify_all()
        self._thread.join()

    def _loop(self) -> None:
        while True:
            with self._state:
                self._state.wait_for(lambda: self._queued or self._stopping, timeout=_IDLE_S)
                job, self._queued = self._queued, None
                self._running = job is not None
                if job is None and self._stopping:
                    return
                self._state.notify_all()
            if job is None:
                self._rest()
                continue
            job.run()
            with self._state:
                self._running = False
                self._state.notify_all()

    def _rest(self) -> None:
        try:
            self._idle()
        except Exception:  # noqa: BLE001 - logged with its trace; the thread goes on
            # Without the thread every later save would be waited for in vain.
            _log.exception("what is done between saves failed")

    def _is_busy(self) -> bool:
        return self._queued is not None or self._running
