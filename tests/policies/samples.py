"""Checkpoints made of little, and plans applied one after another as a run applies them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from holdfast.model import CheckpointInfo, Moment, Plan
from holdfast.policy.retention import KeepPolicy
from holdfast.policy.saving import SavePolicy

EPOCH = 1_760_000_000.0
FULL_ITEMS = ("model", "optimizer")


def checkpoint(number: int, loss: float | None = None, **fields: object) -> CheckpointInfo:
    """A full checkpoint: id "1" for number 1, a second after the one before."""
    values: dict[str, object] = {
        "id": str(number),
        "run": "run",
        "step": 10 * number,
        "created_at": EPOCH + number,
        "metrics": {} if loss is None else {"loss": loss},
        "items": FULL_ITEMS,
    }
    return CheckpointInfo(**{**values, **fields})  # type: ignore[arg-type]


def series(losses: Iterable[float | None]) -> list[CheckpointInfo]:
    return [checkpoint(number, loss) for number, loss in enumerate(losses, start=1)]


def ids(infos: Iterable[CheckpointInfo]) -> list[str]:
    return [info.id for info in infos]


def carry_out(plan: Plan) -> list[CheckpointInfo]:
    """What is left when a plan was applied."""
    return [
        replace(info, items=plan.remaining[info.id], thinned=True)
        if info.id in plan.remaining
        else info
        for info in plan.kept
    ]


def save_one_by_one(
    policy: KeepPolicy, infos: Sequence[CheckpointInfo], **options: object
) -> list[CheckpointInfo]:
    """The survivors when the policy is applied after each save."""
    there: list[CheckpointInfo] = []
    for info in infos:
        there = carry_out(policy.plan([*there, info], **options))  # type: ignore[arg-type]
    return there


def last(step: int = 100, *, ago: float = 0.0, **fields: object) -> CheckpointInfo:
    """The newest checkpoint, so many seconds before `moment`."""
    values = {"id": "last", "run": "run", "step": step, "created_at": EPOCH - ago}
    return CheckpointInfo(**{**values, **fields})  # type: ignore[arg-type]


def moment(step: int = 150, **fields: object) -> Moment:
    """A step at the time of `EPOCH`."""
    return Moment(**{"step": step, "now": EPOCH, **fields})  # type: ignore[arg-type]


def judged(policy: SavePolicy, at: Moment) -> tuple[bool, str]:
    verdict = policy.decide(at)
    return verdict.save, verdict.reason
