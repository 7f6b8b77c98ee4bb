"""Where states come from: resumes, rollbacks and branches, as a picture and as a table."""

from __future__ import annotations

from functools import partial

from nicegui import Client, ui
from nicegui.events import GenericEventArguments

from holdfast.dashboard.pages.branches import LANE_PX, lineage_chart, name_of
from holdfast.dashboard.pages.feed import Showing, follow
from holdfast.dashboard.pages.frame import Frame, framed
from holdfast.dashboard.pages.parts import Tag, link, path_of_run, table
from holdfast.insight import Chain, Lineage, lineage_of
from holdfast.readable import count

#: A picture of all checkpoints is drawn less often than numbers.
_INTERVAL_S = 2.0


async def show(showing: Showing, client: Client) -> None:
    """Shows the page."""
    with framed(showing, client, title="Lineage", current="Lineage") as frame:
        page = _Page(showing, frame)
    await follow(client, showing.site, page.draw, interval_s=_INTERVAL_S)


class _Page:
    def __init__(self, showing: Showing, frame: Frame) -> None:
        self._showing, self._frame = showing, frame
        self._shown: Lineage | None = None
        Tag("p", "Each line is a chain of checkpoints; a dashed one shows what it branched off.")
        self._body = Tag("div")

    async def draw(self) -> None:
        self._body.visible = self._frame.stand()
        if not self._body.visible:
            return
        store, overview = self._showing.site.store, self._showing.site.overview
        found = await self._showing.feed.ask("lineage", partial(lineage_of, store, overview))
        if found == self._shown:
            return
        self._shown = found
        self._body.clear()
        with self._body:
            if not found.chains:
                Tag("p", "There is no checkpoint in this store yet.")
                return
            if found.left_out:
                Tag("p", f"{count(found.left_out, 'older chain')} left out.")
            self._picture(found)
            self._table(found)

    def _picture(self, found: Lineage) -> None:
        height = 110 + LANE_PX * len(found.chains)
        label = f"{count(len(found.chains), 'chain')} of checkpoints, listed in the table below"
        with Tag("div", role="img", aria_label=label):
            chart = ui.echart(lineage_chart(found)).classes("hf-chart")
            chart.style(f"height: {height}px")
        chart.on("componentClick", _open, ["data"])

    def _table(self, found: Lineage) -> None:
        Tag("h2", "Chains")
        table(
            ("Chain", "Steps", "Checkpoints", "Still there", "Branched off"),
            [_row(chain) for chain in found.chains],
            caption="Chains of checkpoints",
        )


def _row(chain: Chain) -> tuple[object, ...]:
    first, last = chain.nodes[0], chain.nodes[-1]
    there = sum(node.there for node in chain.nodes)
    return (
        partial(link, name_of(chain), path_of_run(chain.run)),
        f"{first.step:,} to {last.step:,}",
        f"{len(chain.nodes):,}",
        f"{there:,}",
        chain.parent or "-",
    )


def _open(event: GenericEventArguments) -> None:
    data = event.args.get("data") if isinstance(event.args, dict) else event.args
    if isinstance(data, dict) and data.get("id") and data.get("run"):
        ui.navigate.to(path_of_run(str(data["run"]), checkpoint=data["id"]))
