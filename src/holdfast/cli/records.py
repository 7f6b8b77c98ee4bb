"""What commands print as JSON: stable keys, in one place."""

from __future__ import annotations

from typing import Any

import holdfast
from holdfast.cli.formatting import iso
from holdfast.model import Decision, RunInfo


def of_run(info: RunInfo) -> dict[str, Any]:
    """Returns a run's description."""
    return {
        "name": info.name,
        "status": info.status,
        "created_at": info.created_at,
        "created": iso(info.created_at),
        "metric": info.metric,
        "mode": info.mode,
        "parent": info.parent,
        "policies": info.policies,
        "config": info.config,
    }


def of_info(info: holdfast.CheckpointInfo) -> dict[str, Any]:
    """Returns what policies know of a checkpoint."""
    return {
        "id": info.id,
        "run": info.run,
        "step": info.step,
        "epoch": info.epoch,
        "created_at": info.created_at,
        "created": iso(info.created_at),
        "kind": info.kind,
        "reason": info.reason,
        "metrics": info.metrics,
        "items": info.items,
        "tags": info.tags,
        "pinned": info.pinned,
        "thinned": info.thinned,
        "damaged": info.damaged,
        "awaiting": info.awaiting,
        "parent": info.parent,
    }


def of_checkpoint(checkpoint: holdfast.Checkpoint) -> dict[str, Any]:
    """Returns what the catalog knows of a checkpoint."""
    return {
        **of_info(checkpoint.info),
        "nbytes": checkpoint.nbytes,
        "stored_nbytes": checkpoint.stored_nbytes,
        "metadata": checkpoint.metadata,
        "path": str(checkpoint.path),
    }


def of_plan(plan: holdfast.Plan, *, applied: bool) -> dict[str, Any]:
    """Returns a plan: each checkpoint with what becomes of it and why."""
    thinned = {info.id for info in plan.thinned}

    def described(info: holdfast.CheckpointInfo) -> dict[str, Any]:
        return {
            "id": info.id,
            "run": info.run,
            "step": info.step,
            "metrics": info.metrics,
            "reasons": plan.reasons[info.id],
            "items": plan.remaining.get(info.id, info.items),
        }

    return {
        "applied": applied,
        "kept": [described(info) for info in plan.kept if info.id not in thinned],
        "thinned": [described(info) for info in plan.thinned],
        "deleted": [described(info) for info in plan.deleted],
        "freed_nbytes": plan.freed_nbytes,
    }


def of_decision(decision: Decision) -> dict[str, Any]:
    """Returns a decision."""
    return {
        "at": decision.at,
        "time": iso(decision.at),
        "fate": decision.fate,
        "reason": decision.reason,
        "step": decision.step,
        "checkpoint": decision.checkpoint_id,
    }
