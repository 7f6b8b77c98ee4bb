"""Work that takes its time: in the background, one of a kind at a time, and never forgotten."""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from holdfast.dashboard.problems import Problem, problem_of
from holdfast.errors import HoldfastError, LockedError, NotFoundError, SaveError

_log = logging.getLogger("holdfast")

Kind = Literal["verify", "mirror"]
Progress = Callable[[int], None]

#: Finished ones that are remembered.
_MOST: Final = 100
#: How long the end of the server waits for work that was told to end.
_PATIENCE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Job:
    """A piece of work.

    Attributes:
        id: What to ask for it by.
        kind: What it does.
        state: Whether it is under way, done, or failed.
        started_at: When it began, seconds since the epoch.
        ended_at: When it ended; None while it is under way.
        done_nbytes: Bytes that it has been through.
        total_nbytes: Bytes that it is going to go through, as it was at the beginning.
        result: What it found; None before it is done.
        problem: Why it failed.
    """

    id: str
    kind: Kind
    state: Literal["running", "done", "failed"]
    started_at: float
    ended_at: float | None = None
    done_nbytes: int = 0
    total_nbytes: int = 0
    result: Mapping[str, Any] | None = None
    problem: Problem | None = None


@dataclass(slots=True)
class _Running:
    job: Job
    thread: threading.Thread | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class Jobs:
    """The work of a server. Usable from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, _Running] = {}
        self._ending = threading.Event()

    def start(
        self,
        kind: Kind,
        work: Callable[[Progress], Mapping[str, Any]],
        *,
        total_nbytes: int = 0,
    ) -> Job:
        """Begins some work, and returns at once.

        Args:
            kind: What it does.
            work: Does it, tells its progress in bytes, and returns what it found.
            total_nbytes: Bytes that it is going to go through.

        Raises:
            LockedError: Work of this kind is under way.
        """
        with self._lock:
            for other in self._known.values():
                if other.job.kind == kind and other.job.state == "running":
                    raise LockedError(
                        f"a {kind} is under way: job {other.job.id}",
                        hint="wait for it; one runs at a time",
                        holder=other.job.id,
                    )
            job = Job(secrets.token_hex(8), kind, "running", time.time(), total_nbytes=total_nbytes)
            running = self._known[job.id] = _Running(job)
            self._forget()
        # Not one of the event loop's threads: those are waited for at the end.
        running.thread = threading.Thread(
            target=self._do, args=(running, work), name=f"{kind} {job.id}", daemon=True
        )
        running.thread.start()
        return job

    def get(self, job_id: str) -> Job:
        """Returns a job as it is now; raises `NotFoundError` for one that is not known."""
        running = self._known.get(job_id)
        if running is None:
            raise NotFoundError(
                f"there is no job {job_id!r}", hint="jobs are forgotten when the server ends"
            )
        return running.job

    def all(self) -> list[Job]:
        """Returns all jobs that are remembered, newest first."""
        with self._lock:
            return [running.job for running in reversed(self._known.values())]

    async def end(self) -> None:
        """Tells all work to end, and waits a moment for it."""
        self._ending.set()
        threads = [running.thread for running in list(self._known.values()) if running.thread]
        deadline = time.monotonic() + _PATIENCE_S
        for thread in threads:
            left = max(0.0, deadline - time.monotonic())
            await asyncio.to_thread(thread.join, left)

    def _forget(self) -> None:
        over = len(self._known) - _MOST
        ended = [name for name, one in self._known.items() if one.job.state != "running"]
        for name in ended[: max(0, over)]:
            del self._known[name]

    def _do(self, running: _Running, work: Callable[[Progress], Mapping[str, Any]]) -> None:
        def progress(nbytes: int) -> None:
            if self._ending.is_set():
                raise SaveError("the server was ended meanwhile", hint="start it again")
            with running.lock:
                job = running.job
                running.job = replace(job, done_nbytes=job.done_nbytes + nbytes)

        try:
            result = work(progress)
        except HoldfastError as error:
            outcome: dict[str, Any] = {"state": "failed", "problem": problem_of(error)}
        except Exception as error:  # noqa: BLE001 - of a thread nobody else would hear of it
            _log.exception("job %s (%s) failed", running.job.id, running.job.kind)
            problem = Problem(500, type(error).__name__, str(error), "the server's log says more")
            outcome = {"state": "failed", "problem": problem}
        else:
            outcome = {"state": "done", "result": result}
        with running.lock:
            running.job = replace(running.job, ended_at=time.time(), **outcome)
