"""The REST API: what people see of a store, for programs."""

from __future__ import annotations

import asyncio
from typing import Final

from fastapi import FastAPI

import holdfast
from holdfast.dashboard.api import answering, runs, store
from holdfast.dashboard.site import Site

PREFIX: Final = "/api/v1"

_ROUTERS: Final = (store.router, runs.router)


def build(site: Site, stopping: asyncio.Event) -> FastAPI:
    """Returns the API as an application of its own, to be mounted at `PREFIX`.

    Args:
        site: The store on show.
        stopping: Set when the server goes.
    """
    app = FastAPI(
        title="Holdfast",
        version=holdfast.__version__,
        summary="Checkpoints of training runs: find them, judge them, look after them.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    app.state.site = site
    app.state.stopping = stopping
    answering.add_handlers(app)
    for router in _ROUTERS:
        app.include_router(router)
    return app
