"""One thread that makes saves durable while training goes on."""

from __future__ import annotations

import logging
import threading
from collections import deque
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

    def __init__(self, *, before_wait: Callable[[], None] = lambda: None) -> None:
        self._before_wait = before_wait
        self._owner = threading.get_ident()
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
        if threading.get_ident() == self._owner:
            # The save may wait for something that this thread would do next.
            self._before_wait()
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
        after: Called once the pending has its result: what need not be waited for.
        before_wait: Called before the thread that made the job waits for it.
    """

    def __init__(
        self,
        work: Callable[[], T],
        *,
        settle: Callable[[HoldfastError | None], None],
        drop: Callable[[], None],
        after: Callable[[], object] | None = None,
        before_wait: Callable[[], None] = lambda: None,
    ) -> None:
        self.pending: Pending[T] = Pending(before_wait=before_wait)
        self._work = work
        self._settle = settle
        self._drop = drop
        self._after = after

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

    def follow_up(self) -> None:
        """Does what comes after a success; never raises."""
        if self._after is None or self.pending.exception() is not None:
            return
        try:
            self._after()
        except Exception:  # noqa: BLE001 - logged with its trace; the thread goes on
            # The checkpoint is safe, and the next save tries again.
            _log.exception("what follows a save failed")

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
    """The thread, with a queue of jobs in the order in which they came.

    Args:
        name: The thread's name.
        idle: Called about once a second while there is nothing to do.
    """

    def __init__(self, name: str, *, idle: Callable[[], None]) -> None:
        self._idle = idle
        self._state = threading.Condition()
        # Each changes by one operation: Ctrl-C between two lines leaves nothing to wait for.
        self._queue: deque[Job[Any]] = deque()
        self._running = False
        self._following = False
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether a job is under way or queued, or what follows one."""
        with self._state:
            return self._is_busy()

    @property
    def holding(self) -> int:
        """How many jobs are not settled yet."""
        with self._state:
            return self._holding()

    def submit(self, job: Job[Any]) -> None:
        """Queues a job."""
        with self._state:
            self._queue.append(job)
            self._state.notify_all()

    def drop_queued(self, *, label: str) -> None:
        """Gives up the jobs that have not begun.

        Args:
            label: What replaces them, for their `Pending`.
        """
        with self._state:
            dropped = list(self._queue)
            self._queue.clear()
            self._state.notify_all()
        for job in dropped:
            job.replace(label)

    def wait_below(self, limit: int, *, give_up: Callable[[], bool]) -> bool:
        """Waits until fewer than so many jobs are not settled.

        Args:
            limit: 1 or more.
            give_up: Asked about once a second.

        Returns:
            False when it was given up.
        """
        return self._wait(lambda: self._holding() < limit, give_up)

    def drain(self, *, give_up: Callable[[], bool] = lambda: False) -> bool:
        """Waits until nothing is under way; returns False when it was given up."""
        return self._wait(lambda: not self._is_busy(), give_up)

    def stop(self) -> None:
        """Finishes what is queued and ends the thread."""
        with self._state:
            self._stopping = True
            self._state.notify_all()
        self._thread.join()

    def _wait(self, ready: Callable[[], bool], give_up: Callable[[], bool]) -> bool:
        with self._state:
            while not self._state.wait_for(ready, timeout=_IDLE_S):
                if give_up():
                    return False
            return True

    def _loop(self) -> None:
        while True:
            with self._state:
                self._state.wait_for(lambda: self._queue or self._stopping, timeout=_IDLE_S)
                job = self._queue.popleft() if self._queue else None
                self._running = job is not None
                if job is None and self._stopping:
                    return
                self._state.notify_all()
            if job is None:
                self._rest()
                continue
            job.run()
            with self._state:
                self._running, self._following = False, True
                self._state.notify_all()
            job.follow_up()
            with self._state:
                self._following = False
                self._state.notify_all()

    def _rest(self) -> None:
        try:
            self._idle()
        except Exception:  # noqa: BLE001 - logged with its trace; the thread goes on
            # Without the thread every later save would be waited for in vain.
            _log.exception("what is done between saves failed")

    def _holding(self) -> int:
        return len(self._queue) + self._running

    def _is_busy(self) -> bool:
        return bool(self._queue) or self._running or self._following
