"""The pages: what is in a store, followed as it changes, in a browser.

They are made with NiceGUI, one module for each page; `mount` puts them on a server.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from holdfast.dashboard.site import Site
from holdfast.errors import ConfigError, HoldfastError

if TYPE_CHECKING:
    from fastapi import FastAPI, Request

    from holdfast.dashboard.pages.feed import Showing

    Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[Any]]

#: Where the pages are.
ROOT: Final = "/ui"
_ASSETS: Final = Path(__file__).parent / "assets"


def mount(
    app: FastAPI,
    site: Site,
    *,
    may_act: Callable[[Request], bool],
    log_in: str | None = None,
) -> None:
    """Puts the pages on a server at ``/ui``, and leads ``/`` there.

    A process shows one store: NiceGUI keeps its pages in one application for each process.

    Args:
        app: The server's application; it must not be running yet.
        site: The store on show, which somebody else follows.
        may_act: Whether who sent a request may change anything; asked each time it matters.
        log_in: Path of the page where somebody logs in, who may act then; None where nobody can.

    Raises:
        ConfigError: NiceGUI is not installed.
    """
    try:
        from nicegui import app as pages
        from nicegui import ui
        from starlette.responses import RedirectResponse
    except ModuleNotFoundError as error:
        raise ConfigError(
            "the dashboard needs packages that are not installed",
            hint="pip install 'holdfast[dashboard]'",
        ) from error
    from holdfast.dashboard.pages.feed import Feed, Showing
    from holdfast.dashboard.pages.routes import register

    showing = Showing(site, Feed(site), may_act, log_in)
    pages.add_static_files("/assets", _ASSETS)
    ui.add_head_html(
        f'<link rel="stylesheet" href="{ROOT}/assets/pages.css">'
        f'<script src="{ROOT}/assets/pages.js"></script>',
        shared=True,
    )
    register(showing)

    @app.get("/", include_in_schema=False)
    def to_the_pages() -> RedirectResponse:
        return RedirectResponse(f"{ROOT}/")

    ui.run_with(
        app,
        mount_path=ROOT,
        title="Holdfast",
        # It follows the system until the browser says otherwise.
        dark=None,
        language="en-US",
        tailwind=False,
        show_welcome_message=False,
        # Nothing here is bound.
        binding_refresh_interval=None,
        favicon="⚓",
    )
    app.router.lifespan_context = _warmed(app.router.lifespan_context, showing)


def _warmed(lifespan: Lifespan, showing: Showing) -> Lifespan:
    """Returns a lifespan in which the store is read once before anybody asks for a page."""

    @contextlib.asynccontextmanager
    async def warmed(app: FastAPI) -> AsyncIterator[Any]:
        async with lifespan(app) as state:
            reading = asyncio.create_task(_read(showing), name="reading the store")
            yield state
            reading.cancel()

    return warmed


async def _read(showing: Showing) -> None:
    with contextlib.suppress(HoldfastError):
        # What is wrong with the store is said by the pages.
        await showing.feed.ask("overview", showing.site.overview.summary)
