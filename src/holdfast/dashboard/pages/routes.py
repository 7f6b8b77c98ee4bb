"""Which page answers to which path."""

from __future__ import annotations

from nicegui import Client, ui

from holdfast.dashboard.pages import lineage, overview, run, storage
from holdfast.dashboard.pages.feed import Showing


def register(showing: Showing) -> None:
    """Registers all pages."""

    @ui.page("/")
    async def show_overview(client: Client) -> None:
        await overview.show(showing, client)

    @ui.page("/run/{name:path}")
    async def show_run(client: Client, name: str, checkpoint: str = "") -> None:
        await run.show(showing, client, name, checkpoint=checkpoint)

    @ui.page("/lineage")
    async def show_lineage(client: Client) -> None:
        await lineage.show(showing, client)

    @ui.page("/storage")
    async def show_storage(client: Client) -> None:
        await storage.show(showing, client)
