"""The REST API: what people see of a store, for programs."""

from __future__ import annotations

import asyncio
from typing import Final

from fastapi import APIRouter, FastAPI

import holdfast
from holdfast.dashboard.api import (
    actions,
    answering,
    checkpoints,
    courses,
    events,
    pruning,
    runs,
    store,
    training,
)
from holdfast.dashboard.jobs import Jobs
from holdfast.dashboard.site import Site

#: Where the API is mounted.
PREFIX: Final = "/api"
VERSION: Final = "/v1"

#: Who reads tensors at once; it takes long, and would take all threads from those who only look.
_READERS: Final = 2

_ROUTERS: Final[tuple[APIRouter, ...]] = (
    store.router,
    events.router,
    runs.router,
    courses.router,
    checkpoints.router,
    actions.router,
    pruning.router,
)


def build(site: Site, jobs: Jobs, stopping: asyncio.Event) -> FastAPI:
    """Returns the API as an application of its own, to be mounted at `PREFIX`.

    Args:
        site: The store on show.
        jobs: Work in the background.
        stopping: Set when the server goes.
    """
    app = FastAPI(
        title="Holdfast",
        version=holdfast.__version__,
        summary="Checkpoints of training runs: find them, judge them, look after them.",
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{VERSION}/openapi.json",
    )
    app.state.site = site
    app.state.jobs = jobs
    app.state.streams = events.Streams(stopping)
    app.state.plans = pruning.Plans()
    app.state.reading = asyncio.Semaphore(_READERS)
    answering.add_handlers(app)
    for router in _ROUTERS:
        app.include_router(router, prefix=VERSION)
    # Where those look for it who want nothing else.
    app.include_router(training.router)
    return app
