"""Where a checkpoint's state comes from, and what was made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from holdfast.checkpoint import Checkpoint
from holdfast.errors import NotFoundError
from holdfast.model import CheckpointInfo
from holdfast.store import Store

#: Generations that are followed: what is asked about one checkpoint stays small.
MOST: Final = 1000


@dataclass(frozen=True, slots=True)
class Ancestry:
    """A checkpoint's place among the others.

    Attributes:
        parents: The checkpoint that its state descends from, that one's, and so on.
        lost: Id of the one at which the line breaks off, deleted by now; None where it goes back to
            a state that was trained from nothing, or further than `MOST` generations.
        children: What descends from it directly, oldest first.
    """

    parents: tuple[CheckpointInfo, ...]
    lost: str | None
    children: tuple[CheckpointInfo, ...]


def ancestry_of(store: Store, checkpoint: Checkpoint) -> Ancestry:
    """Returns where a checkpoint's state comes from, and what was made of it.

    Args:
        store: Its store.
        checkpoint: The checkpoint.
    """
    parents: list[CheckpointInfo] = []
    seen = {checkpoint.id}
    parent, lost = checkpoint.parent, None
    while parent is not None and parent not in seen and len(parents) < MOST:
        seen.add(parent)
        try:
            found = store.get(parent).info
        except NotFoundError:
            lost = parent
            break
        parents.append(found)
        parent = found.parent
    children = store.checkpoints(where=f'parent = "{checkpoint.id}"', order_by="created_at")
    return Ancestry(tuple(parents), lost, tuple(child.info for child in children))
