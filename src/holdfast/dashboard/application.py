"""All that is served: the REST API, logging in, the pages."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, Response

import holdfast
from holdfast.dashboard import api, login
from holdfast.dashboard.api import answering
from holdfast.dashboard.gate import Gate, Guarded
from holdfast.dashboard.jobs import Jobs
from holdfast.dashboard.site import Site

#: Adds pages to an application.
Mount = Callable[[FastAPI, Site, Gate], None]


@dataclass(frozen=True, slots=True)
class Served:
    """What a server serves.

    Attributes:
        app: The application behind its gate.
        site: The store on show.
        stopping: Set when the server goes: what waits for changes ends then.
    """

    app: Guarded
    site: Site
    stopping: asyncio.Event


def build(site: Site, gate: Gate, *, pages: Mount | None = None) -> Served:
    """Returns the application of a store on show.

    Args:
        site: The store; it is followed while the application runs.
        gate: Who may do what.
        pages: Adds the pages.
    """
    stopping, jobs = asyncio.Event(), Jobs()
    rest = api.build(site, jobs, stopping)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with site.followed():
            yield
            stopping.set()
            await jobs.end()

    app = FastAPI(
        title="Holdfast", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan
    )
    answering.add_handlers(app)
    login.add(app, gate)
    app.mount(api.PREFIX, rest)
    if pages is not None:
        pages(app, site, gate)
    else:
        app.add_api_route("/", _nothing_to_see, methods=["GET"], include_in_schema=False)
    return Served(gate.guard(app), site, stopping)


def _nothing_to_see() -> Response:
    return PlainTextResponse(
        f"holdfast {holdfast.__version__}\n\n{api.PREFIX}{api.VERSION}/openapi.json\n"
    )
