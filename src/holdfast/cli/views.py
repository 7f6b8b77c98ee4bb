"""What `holdfast watch` watches: all runs at a glance, or one in detail; as a frame and as data."""

from __future__ import annotations

from typing import Any, Protocol

import holdfast
from holdfast.cli import records
from holdfast.cli.finding import open_store
from holdfast.cli.frames import Frame
from holdfast.cli.screens import NEWEST, SPARK, problem_frame, run_frame, store_frame
from holdfast.insight import Overview, RunDetail, StoreSummary, StoreWatch, detail_of


class View(Protocol):
    """Something that is watched.

    Attributes:
        watch: What reads it.
    """

    watch: StoreWatch[Any]

    def frame(self, *, now: float, height: int | None) -> Frame:
        """Returns what the terminal shows.

        Args:
            now: Seconds since the epoch.
            height: Lines of the terminal; None where they do not matter.
        """
        ...

    def data(self) -> dict[str, Any]:
        """Returns what a program is told."""
        ...


class StoreView:
    """All runs at a glance.

    Args:
        url: The store.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self.watch: StoreWatch[StoreSummary] = StoreWatch(
            lambda: open_store(url),
            lambda _, overview: overview.summary(),
            running=lambda summary: (
                run.info.name for run in summary.runs if run.info.status == "running"
            ),
        )

    def frame(self, *, now: float, height: int | None) -> Frame:
        """Returns what the terminal shows."""
        watch, seen = self.watch, self.watch.value
        # What the store holds makes room for why it cannot be read.
        room = height - 2 if height is not None and watch.problem else height
        frame = store_frame(seen, name=self._url, now=now, height=room) if seen else None
        return problem_frame(watch.problem, frame) if watch.problem or frame is None else frame

    def data(self) -> dict[str, Any]:
        """Returns what a program is told."""
        seen = self.watch.value
        return {"store": self._url, **(records.of_summary(seen) if seen else {})}


class RunView:
    """One run in detail.

    Args:
        url: The store.
        run: The run.
    """

    def __init__(self, url: str, run: str) -> None:
        def read(store: holdfast.Store, overview: Overview) -> RunDetail:
            course = overview.course(run)
            return detail_of(store, course, spark=SPARK, checkpoints=NEWEST, decisions=NEWEST)

        self._run = run
        self.watch: StoreWatch[RunDetail] = StoreWatch(
            lambda: open_store(url),
            read,
            running=lambda detail: (run,) if detail.info.status == "running" else (),
        )

    def frame(self, *, now: float, height: int | None) -> Frame:
        """Returns what the terminal shows; what does not fit is cut off below."""
        del height
        frame = run_frame(self.watch.value, now=now) if self.watch.value else None
        problem = self.watch.problem
        return problem_frame(problem, frame) if problem or frame is None else frame

    def data(self) -> dict[str, Any]:
        """Returns what a program is told."""
        seen = self.watch.value
        return {"run": self._run, **(records.of_detail(seen) if seen else {})}
