"""Which page answers to which path."""

from __future__ import annotations

from fastapi import Request
from nicegui import Client, ui

from holdfast.dashboard.pages import compare, lineage, overview, run, storage
from holdfast.dashboard.pages.feed import Showing


def register(showing: Showing) -> None:
    """Registers all pages."""

    @ui.page("/")
    async def show_overview(client: Client) -> None:
        await overview.show(showing, client)

    @ui.page("/run/{name:path}")
    async def show_run(client: Client, name: str, checkpoint: str = "") -> None:
        # An id has no spaces, but the plus of a nested run's name reads as one in an address.
        await run.show(showing, client, name, checkpoint=checkpoint.replace(" ", "+"))

    @ui.page("/lineage")
    async def show_lineage(client: Client) -> None:
        await lineage.show(showing, client)

    @ui.page("/storage")
    async def show_storage(client: Client) -> None:
        await storage.show(showing, client)

    @ui.page("/compare")
    async def show_compare(client: Client, request: Request) -> None:
        asked = request.query_params.getlist("with")
        await compare.show(showing, client, [text.strip() for text in asked if text.strip()])
