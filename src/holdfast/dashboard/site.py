"""The store that is on show: opened, watched, and opened again after it was away."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar

import holdfast
from holdfast.errors import FormatError, HoldfastError, NotFoundError
from holdfast.insight import Overview

_log = logging.getLogger("holdfast")

T = TypeVar("T")

#: How often it is asked whether anything changed; an answer takes some microseconds.
INTERVAL_S: Final = 0.05
#: How often it is looked whether the store is still there, and tried whether it is there again.
_LOOK_S: Final = 1.0
_STORE_FILE: Final = "holdfast.json"

Standing = Literal["ok", "missing", "unreadable"]


@dataclass(frozen=True, slots=True)
class State:
    """How the store stands.

    Attributes:
        standing: ``ok``; ``missing``: nothing is there (any more); ``unreadable``: it is there,
            and cannot be opened.
        text: What is wrong, as a sentence; empty while it is ``ok``.
        hint: What to do about it.
    """

    standing: Standing
    text: str = ""
    hint: str = ""


class Site:
    """A store on show.

    What is asked of it runs in a thread, so that a slow medium holds up nobody else's page.

    Args:
        url: The store's path or URL. It need not be there yet, and nothing is made there.
        catalog: Its catalog, where that is not its own.
        budget: Bytes that may be stored, or text such as ``"2GB"``.
        interval_s: How often to look for changes, in seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        catalog: str | None = None,
        budget: int | str | None = None,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self.url = url
        self._catalog = catalog
        self._budget = budget
        self._interval_s = interval_s
        self._opened: _Opened | None = None
        self._looked_at = -_LOOK_S
        self._version = 0
        self._changed = asyncio.Condition()
        self.state = State("missing", f"{url} was not looked at yet", "wait a moment")

    # -- what it shows -----------------------------------------------------------------------

    @property
    def version(self) -> int:
        """A number that grows with every change that was seen."""
        return self._version

    @property
    def store(self) -> holdfast.Store:
        """The store.

        Raises:
            NotFoundError: It is not there now.
            FormatError, IntegrityError: It cannot be opened now.
        """
        return self._now.store

    @property
    def overview(self) -> Overview:
        """Its summary and its runs' courses; errors as `store`."""
        return self._now.overview

    @property
    def _now(self) -> _Opened:
        if self._opened is None:
            kind = NotFoundError if self.state.standing == "missing" else FormatError
            raise kind(self.state.text, hint=self.state.hint)
        return self._opened

    async def ask(self, question: Callable[[], T]) -> T:
        """Returns an answer from a thread of its own."""
        return await asyncio.to_thread(question)

    # -- following it ------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def followed(self) -> AsyncIterator[Site]:
        """Watches the store for a block, and closes it at the end."""
        await asyncio.to_thread(self._look)
        watching = asyncio.create_task(self._watch(), name="watching the store")
        watching.add_done_callback(_ended)
        try:
            yield self
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
            await asyncio.to_thread(self._close)

    async def changed(self, since: int) -> int:
        """Waits until the version is beyond a number, and returns it."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._version > since)
            return self._version

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            if await asyncio.to_thread(self._look):
                async with self._changed:
                    self._version += 1
                    self._changed.notify_all()

    def _look(self) -> bool:
        """Looks at the store once; returns whether there is anything new to show."""
        before = self.state
        now = time.monotonic()
        due = now >= self._looked_at + _LOOK_S
        if due:
            self._looked_at = now
            self._stand()
        opened = self._opened
        if opened is None:
            return self.state != before
        try:
            lost = due and opened.overview.has_lost_an_owner()
            return opened.changed() or lost or self.state != before
        except (HoldfastError, OSError) as error:
            # Damaged, locked for long, or gone between two looks: the next look opens it anew.
            self._lose(_unreadable(error))
            return self.state != before

    def _stand(self) -> None:
        """Opens the store where it is there and not open, and lets it go where it is gone."""
        there = _identity(self.url)
        if there is None:
            self._lose(State("missing", f"there is no store at {self.url}", "is its disk mounted?"))
        elif self._opened is None or self._opened.identity != there:
            self._lose(self.state)
            self._open(there)

    def _open(self, identity: tuple[int, int]) -> None:
        try:
            store = holdfast.open(self.url, catalog=self._catalog)
            try:
                self._opened = _Opened(store, Overview(store, budget=self._budget), identity)
            except BaseException:
                store.close()
                raise
        except (HoldfastError, OSError) as error:
            self.state = _unreadable(error)
        else:
            self.state = State("ok")

    def _lose(self, state: State) -> None:
        opened, self._opened = self._opened, None
        self.state = state
        if opened is not None:
            with contextlib.suppress(HoldfastError, OSError):
                # Its files may be gone; there is nothing to be saved.
                opened.close()

    def _close(self) -> None:
        self._lose(State("missing", f"{self.url} was closed", ""))


def _unreadable(error: HoldfastError | OSError) -> State:
    text = error.message if isinstance(error, HoldfastError) else str(error)
    hint = error.hint if isinstance(error, HoldfastError) else ""
    return State("unreadable", text, hint or "`holdfast doctor` says more")


def _ended(watching: asyncio.Task[None]) -> None:
    """Says so where following ended by a defect: what is shown is of the past from then on."""
    if not watching.cancelled() and (error := watching.exception()) is not None:
        _log.critical("the store is not followed any more: start again", exc_info=error)


class _Opened:
    """An open store with what follows it."""

    def __init__(
        self, store: holdfast.Store, overview: Overview, identity: tuple[int, int]
    ) -> None:
        self.store = store
        self.overview = overview
        self.identity = identity
        self._watcher = store.watcher()
        self._seen = ""

    def changed(self) -> bool:
        seen, self._seen = self._seen, self._watcher.version()
        return seen != self._seen

    def close(self) -> None:
        self._watcher.close()
        self.store.close()


def _identity(url: str) -> tuple[int, int] | None:
    """Returns what tells a store's folder from another one in its place; None where there is none.

    Opening a path makes a store there, so that this comes first: nothing is made by looking.
    """
    path = Path(url.removeprefix("file://"))
    try:
        found, folder = (path / _STORE_FILE).stat(), path.stat()
    except OSError:
        return None
    return folder.st_ino, found.st_ino
