"""What pages follow: answers that are computed once for all of them, and a task for each page."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from fastapi import Request
from nicegui import Client, background_tasks

from holdfast.dashboard.site import Site
from holdfast.errors import HoldfastError

_log = logging.getLogger("holdfast")

T = TypeVar("T")

#: Pushes to one page come no closer together than this.
INTERVAL_S: Final = 0.25
#: How long a page waits for its first answer before it is shown without.
_PATIENCE_S: Final = 1.5
_ANSWERS: Final = 64

Draw = Callable[[], Awaitable[None]]


class Feed:
    """Answers about a store, each computed once for each version, however many pages ask.

    Args:
        site: The store on show.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._answers: dict[Hashable, tuple[int, asyncio.Future[Any]]] = {}

    async def ask(self, name: Hashable, question: Callable[[], T]) -> T:
        """Returns the answer to a question, which is asked in a thread.

        Args:
            name: What tells the question from others.
            question: What finds the answer.
        """
        version = self._site.version
        known = self._answers.get(name)
        if known is None or known[0] != version:
            answer = asyncio.ensure_future(self._site.ask(question))
            # Whoever asked may be gone when it fails.
            answer.add_done_callback(_seen)
            self._answers.pop(name, None)
            self._answers[name] = known = (version, answer)
            while len(self._answers) > _ANSWERS:
                del self._answers[next(iter(self._answers))]
        found: T = await asyncio.shield(known[1])
        return found


def _seen(answer: asyncio.Future[Any]) -> None:
    if not answer.cancelled():
        answer.exception()


@dataclass(frozen=True, slots=True)
class Showing:
    """What every page needs.

    Attributes:
        site: The store on show.
        feed: Answers that pages share.
        may_act: Whether who sent a request may change anything.
        log_in: Path of the page where somebody logs in; None where nobody can.
    """

    site: Site
    feed: Feed
    may_act: Callable[[Request], bool]
    log_in: str | None = None


async def follow(client: Client, site: Site, draw: Draw, *, interval_s: float = INTERVAL_S) -> None:
    """Draws a page, and again after each change for as long as somebody looks at it.

    Args:
        client: The page.
        site: The store on show.
        draw: What draws; its errors are the page's to show.
        interval_s: Least time between two drawings, in seconds.
    """
    follower = _Follower(client, site, draw, interval_s)
    client.on_connect(follower.start)
    client.on_disconnect(follower.stop)
    client.on_delete(follower.stop)
    await follower.begin()


class _Follower:
    """One page's task."""

    def __init__(self, client: Client, site: Site, draw: Draw, interval_s: float) -> None:
        self._client = client
        self._site = site
        self._draw = draw
        self._interval_s = interval_s
        self._seen = -1
        self._drawing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Draws for the first time; a slow store is waited for behind the page's back."""
        first = background_tasks.create(self._once(), name="drawing a page")
        await asyncio.wait({first}, timeout=_PATIENCE_S)

    def start(self) -> None:
        self.stop()
        self._task = background_tasks.create(self._follow(), name="following the store")

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(asyncio.CancelledError):
            while not self._client.is_deleted:
                await self._site.changed(self._seen)
                began = loop.time()
                await self._once()
                await asyncio.sleep(max(0.0, began + self._interval_s - loop.time()))

    async def _once(self) -> None:
        async with self._drawing:
            # Before the question: what changes while it is answered is drawn again.
            self._seen = self._site.version
            with self._client:
                try:
                    await self._draw()
                except HoldfastError as error:
                    # The store went away between two looks; its state says so on the page.
                    _log.debug("a page could not be drawn: %s", error.message)
