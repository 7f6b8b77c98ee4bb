"""What commands print as JSON: stable keys, in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import holdfast
from holdfast.cli.formatting import iso
from holdfast.model import Decision, RunInfo

if TYPE_CHECKING:
    from holdfast.insight import Alert, RunDetail, StoreSummary


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


def of_alert(alert: Alert) -> dict[str, Any]:
    """Returns what needs attention."""
    return {
        "severity": alert.severity,
        "kind": alert.kind,
        "run": alert.run,
        "text": alert.text,
        "hint": alert.hint,
        "checkpoint": alert.checkpoint,
    }


def of_summary(summary: StoreSummary) -> dict[str, Any]:
    """Returns a store at a glance."""
    return {
        "runs": [
            {
                "name": run.info.name,
                "status": run.info.status,
                "steps": run.steps,
                "last_step": run.last_step,
                "metric": run.info.metric,
                "best": run.best_value,
                "best_checkpoint": run.best.id if run.best else None,
                "last_saved_at": run.latest.created_at if run.latest else None,
                "checkpoints": run.checkpoints,
                "nbytes": run.nbytes,
                "stored_nbytes": run.stored_nbytes,
                "spark": run.spark,
            }
            for run in summary.runs
        ],
        "checkpoints": summary.checkpoints,
        "nbytes": summary.nbytes,
        "stored_nbytes": summary.stored_nbytes,
        "alerts": [of_alert(alert) for alert in summary.alerts],
    }


def of_detail(detail: RunDetail) -> dict[str, Any]:
    """Returns a run in detail."""
    return {
        **of_run(detail.info),
        "steps": detail.steps,
        "last_step": detail.last_step,
        "last_at": detail.last_at,
        "metrics": {
            metric.name: {
                "last": metric.last,
                "last_step": metric.last_step,
                "best": metric.best,
                "lowest": metric.lowest,
                "highest": metric.highest,
                "points": metric.points,
                "spark": metric.spark,
            }
            for metric in detail.metrics
        },
        "best_checkpoint": of_info(detail.best.info) if detail.best else None,
        "fates": detail.fates(),
        "newest": [of_info(record.info) for record in detail.checkpoints],
        "decisions": [of_decision(decision) for decision in detail.decisions],
        "stored_nbytes": detail.usage.stored_nbytes,
        "stall_ms": detail.costs.medians[0] if detail.costs.medians else None,
        "durable_ms": detail.costs.medians[1] if detail.costs.medians else None,
        "alerts": [of_alert(alert) for alert in detail.alerts],
    }
