"""Which page answers to which path."""

from __future__ import annotations

from nicegui import Client, ui

from holdfast.dashboard.pages import overview
from holdfast.dashboard.pages.feed import Showing


def register(showing: Showing) -> None:
    """Registers all pages."""

    @ui.page("/")
    async def show_overview(client: Client) -> None:
        await overview.show(showing, client)
