"""A lineage as a picture: one lane for each chain, steps to the right, branches as dashed lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from holdfast.dashboard.pages.charts import LOOKS, Options
from holdfast.insight import Chain, Lineage, Node

#: Checkpoints of a chain that are drawn; what is special always is.
_NODES: Final = 60
LANE_PX: Final = 46
_LINE: Final = "#5b8fb9"


def lineage_chart(lineage: Lineage) -> Options:
    """Returns the picture of a lineage; runs' names are values in it, never keys."""
    lanes = {id(chain): lane for lane, chain in enumerate(lineage.chains)}
    places = {
        node.id: (node.step, lanes[id(chain)]) for chain in lineage.chains for node in chain.nodes
    }
    return {
        "animation": False,
        "backgroundColor": "transparent",
        "grid": {"left": 16, "right": 32, "top": 28, "bottom": 44, "containLabel": True},
        "tooltip": {
            "trigger": "item",
            "renderMode": "richText",
            "confine": True,
            ":formatter": "window.holdfast.label",
        },
        "xAxis": {
            "type": "value",
            "name": "step",
            "nameLocation": "middle",
            "nameGap": 26,
            "axisLine": {"onZero": False},
        },
        "yAxis": {
            "type": "value",
            "inverse": True,
            "min": -0.6,
            "max": len(lineage.chains) - 0.4,
            "show": False,
        },
        "dataZoom": [{"type": "inside", "xAxisIndex": 0, "filterMode": "none"}],
        "series": [
            _segments("chains", _spans(lineage, lanes), dashed=False),
            _segments("branches", _branches(lineage, places), dashed=True),
            *(_points(lineage, lanes, look) for look in ("deleted", "kept", "pinned", "best")),
            _names(lineage, lanes),
        ],
    }


def _segments(name: str, coords: list[list[list[float]]], *, dashed: bool) -> Options:
    return {
        "id": name,
        "name": name,
        "type": "lines",
        "coordinateSystem": "cartesian2d",
        "polyline": False,
        "silent": True,
        "lineStyle": {
            "color": _LINE,
            "width": 2,
            "opacity": 1,
            "type": "dashed" if dashed else "solid",
            "curveness": 0.15 if dashed else 0,
        },
        "data": [{"coords": pair} for pair in coords],
    }


def _spans(lineage: Lineage, lanes: dict[int, int]) -> list[list[list[float]]]:
    return [
        [[chain.nodes[0].step, lanes[id(chain)]], [chain.nodes[-1].step, lanes[id(chain)]]]
        for chain in lineage.chains
    ]


def _branches(lineage: Lineage, places: dict[str, tuple[int, int]]) -> list[list[list[float]]]:
    return [
        [list(places[chain.parent]), list(places[chain.nodes[0].id])]
        for chain in lineage.chains
        if chain.parent in places
    ]


def _points(lineage: Lineage, lanes: dict[int, int], look: str) -> Options:
    how = LOOKS[look]
    style: dict[str, Any] = {"color": how.colour, "opacity": 1}
    if how.hollow:
        style = {"color": "transparent", "borderColor": how.colour, "borderWidth": 2}
    return {
        "id": f"nodes-{look}",
        "name": how.name,
        "type": "scatter",
        "symbol": how.symbol,
        "symbolSize": how.size,
        "itemStyle": style,
        "z": 5,
        "data": [
            {
                "value": [node.step, lanes[id(chain)]],
                "id": node.id if node.there else "",
                "run": chain.run,
                "text": _text(node),
            }
            for chain in lineage.chains
            for node in _drawn(chain.nodes)
            if look in _looks(node)
        ],
    }


def _looks(node: Node) -> list[str]:
    found = ["kept" if node.there else "deleted"]
    return found + ["pinned"] * node.pinned + ["best"] * node.best


def _drawn(nodes: Sequence[Node]) -> list[Node]:
    """Returns the ends of a chain, what is special, and some of the rest."""
    if len(nodes) <= _NODES:
        return list(nodes)
    chosen = set(np.linspace(0, len(nodes) - 1, _NODES).astype(int).tolist())
    return [
        node
        for number, node in enumerate(nodes)
        if number in chosen or node.best or node.pinned or node.tags
    ]


def _text(node: Node) -> str:
    parts = ["kept" if node.there else "deleted"]
    parts += ["best"] * node.best + ["pinned"] * node.pinned
    parts += [f"tagged {', '.join(node.tags)}"] if node.tags else []
    return f"{node.id}, step {node.step}: {', '.join(parts)}"


def _names(lineage: Lineage, lanes: dict[int, int]) -> Options:
    return {
        "id": "names",
        "name": "runs",
        "type": "scatter",
        "symbolSize": 1,
        "silent": True,
        "label": {
            "show": True,
            "position": "top",
            "align": "left",
            "distance": 6,
            ":formatter": "window.holdfast.label",
        },
        "data": [
            {"value": [chain.nodes[0].step, lanes[id(chain)]], "text": name_of(chain)}
            for chain in lineage.chains
        ],
    }


def name_of(chain: Chain) -> str:
    """Returns what a chain is called: its run, and how it began where that is news."""
    if chain.kind == "rollback":
        return (
            f"{chain.run}, gone back to step {chain.nodes[0].step}"
            if not chain.parent
            else (f"{chain.run}, gone back")
        )
    if chain.kind == "begin" and chain.parent_run:
        return f"{chain.run}, started from {chain.parent_run}"
    return chain.run
