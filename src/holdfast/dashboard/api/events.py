"""What happens, as it happens: server-sent events.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Annotated, Final

from fastapi import APIRouter, Header, Request
from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from holdfast.dashboard.api.answering import ERRORS, Shown
from holdfast.dashboard.problems import RefusedError, of_status
from holdfast.dashboard.site import Site, State

router = APIRouter(responses=ERRORS, tags=["store"])

#: Streams at once; each holds a connection, and little else.
MOST: Final = 64
#: Proxies close what is silent for a minute or so.
_HEARTBEAT_S: Final = 15.0
_RETRY_MS: Final = 1000


class Streams:
    """The streams that are open.

    Args:
        stopping: Set when the server goes: all of them end then.
    """

    def __init__(self, stopping: asyncio.Event) -> None:
        self._stopping = stopping
        self._open = 0
        # Versions count from 0 in each process: an id of an earlier one says nothing here.
        self._process = secrets.token_hex(4)

    def admit(self) -> None:
        """Lets one more in.

        Raises:
            RefusedError: There are too many.
        """
        if self._open >= MOST:
            raise RefusedError(
                of_status(
                    503,
                    f"{MOST} streams are open, and there are no more",
                    "close one, or ask /api/v1/health for the version",
                    retry_after="5",
                )
            )
        self._open += 1

    def leave(self) -> None:
        """Notes that one is closed."""
        self._open -= 1

    async def stream(self, site: Site, last_id: str | None) -> AsyncGenerator[str]:
        """Yields the text of a stream until the client or the server goes.

        Args:
            site: The store on show.
            last_id: Id of the last event that the client saw, where it says one.
        """
        version, state = site.version, site.state
        yield f"retry: {_RETRY_MS}\n\n{self._state(version, state)}"
        if last_id is not None and last_id != self._id(version):
            yield self._change(version)
        # Each is asked for by its number: what comes while an event is on its way is not missed.
        while await self._beat(site, version):
            if site.version == version and site.state == state:
                yield ": still here\n\n"
                continue
            if site.state != state:
                state = site.state
                yield self._state(site.version, state)
            if site.version != version:
                version = site.version
                yield self._change(version)

    async def _beat(self, site: Site, version: int) -> bool:
        """Waits for a change or a heartbeat; returns whether the stream goes on."""
        waiting = [
            asyncio.create_task(site.changed(version)),
            asyncio.create_task(self._stopping.wait()),
        ]
        try:
            await asyncio.wait(waiting, timeout=_HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        return not self._stopping.is_set()

    def _id(self, version: int) -> str:
        return f"{self._process}-{version}"

    def _change(self, version: int) -> str:
        return self._event("change", version, {"version": version})

    def _state(self, version: int, state: State) -> str:
        said = {"standing": state.standing, "text": state.text, "hint": state.hint}
        return self._event("state", version, said)

    def _event(self, name: str, version: int, data: Mapping[str, object]) -> str:
        return f"id: {self._id(version)}\nevent: {name}\ndata: {json.dumps(data)}\n\n"


@router.get(
    "/events",
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def events(
    request: Request, site: Shown, last_event_id: Annotated[str | None, Header()] = None
) -> Response:
    """Tell of each change as it is committed (`change`), and how the store stands (`state`)."""
    streams: Streams = request.app.state.streams
    streams.admit()
    return _Stream(streams.stream(site, last_event_id), streams.leave)


class _Stream(StreamingResponse):
    """A stream that is closed also where the client went before it began."""

    def __init__(self, stream: AsyncGenerator[str], leave: Callable[[], None]) -> None:
        super().__init__(stream, media_type="text/event-stream")
        self._stream = stream
        self._leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with contextlib.aclosing(self._stream):
                await super().__call__(scope, receive, send)
        finally:
            self._leave()
