"""Runs: all of them at a glance, and one in full."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from holdfast.dashboard.api import models
from holdfast.dashboard.api.answering import ERRORS, Shown, answer, run_named
from holdfast.errors import NotFoundError
from holdfast.insight import RunSummary

router = APIRouter(responses=ERRORS, tags=["runs"])


@router.get("/runs", response_model=models.RunList)
async def list_runs(site: Shown) -> Response:
    """List all runs at a glance."""

    def found() -> models.RunList:
        runs = site.overview.summary().runs
        return models.RunList(items=[_of(run) for run in runs], total=len(runs))

    return await answer(site, found)


@router.get("/runs/{run}", response_model=models.RunDetail)
async def show_run(site: Shown, run: str) -> Response:
    """Show one run; write `+` for each `/` of its name."""

    def found() -> models.RunDetail:
        # Raises with the nearest names.
        reader = site.store[run_named(run)]
        for summary in site.overview.summary().runs:
            if summary.info.name == reader.name:
                info = summary.info
                return models.RunDetail(
                    **_facts(summary),
                    config=models.plain(dict(info.config)),
                    policies=dict(info.policies),
                    environment=models.plain(dict(info.environment)),
                )
        raise NotFoundError(f"the run {reader.name!r} was deleted just now")

    return await answer(site, found)


def _of(run: RunSummary) -> models.RunAnswer:
    return models.RunAnswer(**_facts(run))


def _facts(run: RunSummary) -> dict[str, Any]:
    info = run.info
    return {
        "name": info.name,
        "status": info.status,
        "created_at": info.created_at,
        "metric": info.metric,
        "mode": info.mode,
        "parent": info.parent,
        "steps": run.steps,
        "last_step": run.last_step,
        "best": run.best.id if run.best else None,
        "best_value": run.best_value,
        "latest": run.latest.id if run.latest else None,
        "last_saved_at": run.latest.created_at if run.latest else None,
        "checkpoints": run.checkpoints,
        "nbytes": run.nbytes,
        "stored_nbytes": run.stored_nbytes,
        "spark": list(run.spark),
    }
