"""A run's mirrors, kept up to date behind its saves: a slow one holds up nothing but itself."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from holdfast.errors import HoldfastError
from holdfast.lifecycle.mirroredrun import Mirrored, MirroredRun
from holdfast.lifecycle.mirrors import Mirror, make_ready
from holdfast.lifecycle.place import Place
from holdfast.watching import STUCK_S

_log = logging.getLogger("holdfast")

_IDLE_S: Final = 1.0


class MirroredRuns:
    """A run in all its mirrors.

    Args:
        place: The store, with its mirrors.
        run: The run.
    """

    def __init__(self, place: Place, run: str) -> None:
        self._followers = [Follower(place, mirror, run) for mirror in place.mirrors]

    def wish(self) -> None:
        """Asks for the mirrors to be brought up to date with the run as it is now."""
        for follower in self._followers:
            follower.wish()

    def wait(self) -> None:
        """Waits until what was asked for is done or failed, or its medium is given up."""
        for follower in self._followers:
            follower.wait()

    def finish(self) -> None:
        """Waits until the mirrors are current, and ends their threads; warns of what is not."""
        for follower in self._followers:
            follower.finish()

    def stats(self) -> list[dict[str, Any]]:
        """Returns how each mirror does, for `Run.stats`."""
        return [follower.stats() for follower in self._followers]

    def set_clock(self, clock: Callable[[], float]) -> None:
        """Measures standstills by another clock."""
        for follower in self._followers:
            follower.clock = clock


class Follower:
    """One run in one mirror, and the thread that brings it up to date.

    However many wishes come while a pass is under way, one more pass follows it.

    Args:
        place: The store.
        mirror: The mirror.
        run: The run.

    Attributes:
        clock: Seconds that only grow.
    """

    def __init__(self, place: Place, mirror: Mirror, run: str) -> None:
        self.clock: Callable[[], float] = time.monotonic
        self._place = place
        self._mirror = mirror
        self._run = run
        self._pass = MirroredRun(place, mirror, run)
        self._state = threading.Condition()
        self._wished = self._busy = self._stopping = False
        self._moved = 0.0
        self._copied = self._failed = self._nbytes = 0
        self._problem = self._told = ""
        self._succeeded_at: float | None = None
        self._thread: threading.Thread | None = None

    def wish(self) -> None:
        """Asks for a pass; returns at once. Nothing happens once it is finished."""
        with self._state:
            if self._stopping:
                return
            self._wished = True
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._loop, name=f"holdfast-mirror-{self._run}", daemon=True
                )
                self._moved = self.clock()
                self._thread.start()
            self._state.notify_all()

    def wait(self) -> None:
        """Waits for what was asked for, unless the medium does not answer."""
        with self._state:
            while not self._state.wait_for(self._is_idle, timeout=_IDLE_S):
                if self._still_s >= STUCK_S:
                    return

    def finish(self) -> None:
        """Waits as `wait`, ends the thread, and warns where the mirror is not current."""
        self.wait()
        with self._state:
            self._stopping = True
            self._state.notify_all()
            idle, problem = self._is_idle(), self._problem
        if not idle:
            _log.warning(
                "%s is left before its mirror %s is current: it has not answered for %.0f s",
                self._run,
                self._mirror.label,
                self._still_s,
            )
        elif problem:
            _log.warning(
                "%s is left before its mirror %s is current: %s",
                self._run,
                self._mirror.label,
                problem,
            )

    def stats(self) -> dict[str, Any]:
        """Returns how the mirror does."""
        done = set(self._pass.current)
        return {
            "mirror": self._mirror.label,
            "behind": sum(
                self._place.has_manifest(self._run, checkpoint_id)
                for checkpoint_id in self._place.checkpoint_ids(self._run)
                if checkpoint_id not in done
            ),
            "copied": self._copied,
            "copied_nbytes": self._nbytes,
            "failed": self._failed,
            "busy": self._busy or self._wished,
            "still_s": self._still_s,
            "last_success_at": self._succeeded_at,
            "last_error": self._problem or None,
        }

    # -- on the mirror's thread ---------------------------------------------------------------

    def _loop(self) -> None:
        while True:
            with self._state:
                self._state.wait_for(lambda: self._wished or self._stopping)
                if not self._wished:
                    return
                self._wished, self._busy = False, True
                self._moved = self.clock()
            try:
                self._once()
            finally:
                with self._state:
                    self._busy = False
                    self._state.notify_all()

    def _once(self) -> None:
        try:
            make_ready(self._place, self._mirror, anew=False)
            done = self._pass.update(progress=self._move)
            self._note(done.problems, done)
        except (HoldfastError, OSError) as error:
            # Its state may be half of what happened: the next pass looks at everything again.
            self._pass = MirroredRun(self._place, self._mirror, self._run)
            self._note((str(error),), None)
        except Exception as error:  # noqa: BLE001 - logged with its trace; the thread goes on
            _log.exception("mirroring %s failed", self._run)
            self._note((f"{type(error).__name__}: {error}",), None)

    def _move(self, _: int) -> None:
        self._moved = self.clock()

    def _note(self, problems: Iterable[str], done: Mirrored | None) -> None:
        problem = "; ".join(problems)
        with self._state:
            self._problem = problem
            if done is not None:
                self._copied += len(done.copied)
                self._nbytes += done.nbytes
            if problem:
                self._failed += 1
            else:
                self._succeeded_at = time.time()
        if problem and problem != self._told:
            # Once: it comes again after each save until it is mended.
            _log.error("the mirror %s of %s is behind: %s", self._mirror.label, self._run, problem)
        elif self._told and not problem:
            _log.info("the mirror %s of %s is current again", self._mirror.label, self._run)
        self._told = problem

    # -- within -------------------------------------------------------------------------------

    def _is_idle(self) -> bool:
        return self._thread is None or not (self._wished or self._busy)

    @property
    def _still_s(self) -> float:
        return self.clock() - self._moved if self._busy else 0.0
