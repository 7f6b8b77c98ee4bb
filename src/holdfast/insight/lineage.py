"""Where states come from: runs as chains of checkpoints, and where one branches off another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from holdfast.insight.course import Course
from holdfast.insight.marks import best_of
from holdfast.insight.overview import Overview
from holdfast.model import CheckpointInfo, Decision, RunInfo
from holdfast.store import Store

Kind = Literal["begin", "rollback", "run"]

#: Chains that a picture can show; the newest stay.
MOST: Final = 200


@dataclass(frozen=True, slots=True)
class Node:
    """A checkpoint in a lineage.

    Attributes:
        id: Its id.
        step: Its step.
        at: When it was saved, seconds since the epoch.
        there: Whether it still exists.
        best: Whether it is its run's best.
        pinned: Whether it is protected from every policy.
        tags: Its tags.
    """

    id: str
    step: int
    at: float
    there: bool
    best: bool = False
    pinned: bool = False
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chain:
    """Checkpoints of a run that descend one from another, in the order of their saving.

    Attributes:
        run: The run.
        kind: How it begins: as the first of its run; by going back to an earlier checkpoint of
            its run (``rollback``); or from a checkpoint of another run (``run``).
        nodes: Its checkpoints, the deleted ones included.
        parent: Id of the checkpoint that it branches off; None where it begins from nothing, or
            where nobody knows any more.
        parent_run: The run that it was started from; None for none.
    """

    run: str
    kind: Kind
    nodes: tuple[Node, ...]
    parent: str | None = None
    parent_run: str | None = None


@dataclass(frozen=True, slots=True)
class Lineage:
    """The chains of a store.

    Attributes:
        chains: Oldest first.
        left_out: How many older chains are not among them.
    """

    chains: tuple[Chain, ...]
    left_out: int = 0


@dataclass(slots=True)
class _Growing:
    kind: Kind
    parent: str | None
    nodes: list[Node] = field(default_factory=list)


def lineage_of(store: Store, overview: Overview, run: str | None = None) -> Lineage:
    """Returns how the checkpoints of a store descend from one another.

    Args:
        store: The store.
        overview: Its overview, which keeps what was read of its runs.
        run: Only this run; left out, all.

    Raises:
        NotFoundError: There is no such run.
    """
    readers = [store[run]] if run is not None else store.runs()
    by_run: dict[str, list[CheckpointInfo]] = defaultdict(list)
    for checkpoint in store.checkpoints(run, order_by="created_at"):
        by_run[checkpoint.run].append(checkpoint.info)
    chains: list[Chain] = []
    for reader in readers:
        info, course = reader.info, overview.course(reader.name)
        best = best_of(reader)
        chains += chains_of(info, course, by_run[reader.name], best=best.id if best else None)
    chains.sort(key=lambda chain: (chain.nodes[0].at, chain.run))
    shown = chains[-MOST:]
    return Lineage(tuple(shown), len(chains) - len(shown))


def chains_of(
    info: RunInfo,
    course: Course,
    checkpoints: Sequence[CheckpointInfo],
    *,
    best: str | None = None,
) -> list[Chain]:
    """Returns the chains of one run.

    A checkpoint goes on with the chain of the one before it when that is its parent. Of deleted
    ones nobody knows the parent any more: they go on while their steps rise.

    Args:
        info: What is known of the run.
        course: Its course, refreshed.
        checkpoints: Those that exist, oldest first.
        best: Id of the best of them.
    """
    there = {found.id: found for found in checkpoints}
    growing: list[_Growing] = []
    seen: set[str] = set()
    for node in _nodes(course.decisions, there, best):
        parent = there[node.id].parent if node.id in there else None
        if growing and _goes_on(growing[-1].nodes[-1], node, parent, node.id in there):
            growing[-1].nodes.append(node)
        else:
            kind: Kind = "rollback" if growing else "begin"
            if parent is not None and parent not in seen:
                kind = "run"
            growing.append(_Growing(kind, parent, [node]))
        seen.add(node.id)
    return [
        Chain(info.name, one.kind, tuple(one.nodes), one.parent, info.parent) for one in growing
    ]


def _goes_on(last: Node, node: Node, parent: str | None, known: bool) -> bool:
    if parent is not None:
        return parent == last.id
    # The first of a run that begins again from nothing has no parent, and lower steps.
    return node.step > last.step if not known else node.step > last.step and not last.there


def _nodes(
    decisions: Iterable[Decision], there: Mapping[str, CheckpointInfo], best: str | None
) -> list[Node]:
    """Returns all checkpoints that a run ever had, in the order of their saving."""
    found: dict[str, Node] = {}
    for decision in decisions:
        if decision.fate == "saved" and decision.checkpoint_id:
            found[decision.checkpoint_id] = Node(
                decision.checkpoint_id, decision.step, decision.at, False
            )
    for info in there.values():
        found[info.id] = Node(
            info.id, info.step, info.created_at, True, info.id == best, info.pinned, info.tags
        )
    return sorted(found.values(), key=lambda node: (node.at, node.id))
