"""Checkpoints: listed in pages, one in full, two compared."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

import holdfast
from holdfast.dashboard.api import listing, models
from holdfast.dashboard.api.answering import ERRORS, Shown, answer, reference_of, run_named
from holdfast.errors import ConfigError
from holdfast.insight.ancestry import Ancestry, ancestry_of

router = APIRouter(responses=ERRORS, tags=["checkpoints"])

#: Rows of a page at most.
MOST = 1000
_LIMIT = 100

Reference = Annotated[str, Query(max_length=400, description="`run@best`, `run@step:400`, an id.")]


@router.get("/checkpoints", response_model=models.CheckpointPage)
async def list_checkpoints(
    site: Shown,
    *,
    run: Annotated[str | None, Query(max_length=200, description="Only those of it.")] = None,
    where: Annotated[
        str | None,
        Query(max_length=2000, description='`loss < 0.3 and step >= 100 and tag = "prod"`'),
    ] = None,
    order_by: Annotated[
        str, Query(max_length=200, description="A field or a metric; `-` before it: descending.")
    ] = "-created_at",
    limit: Annotated[int | None, Query(ge=1, le=MOST, description="100 unless told.")] = None,
    cursor: Annotated[
        str | None, Query(max_length=2000, description="`next` of the page before.")
    ] = None,
    start: Annotated[int | None, Query(ge=0, le=2**53, description="The first row.")] = None,
    end: Annotated[
        int | None, Query(ge=0, le=2**53, description=f"The row behind the last; {MOST} at most.")
    ] = None,
) -> Response:
    """List checkpoints: pages by a cursor, or rows by their numbers from `start` up to `end`."""
    question = listing.Question(run and run_named(run), where, order_by)
    by_rows = start is not None or end is not None
    if by_rows and (limit is not None or cursor is not None):
        raise ConfigError(
            "rows are asked for by start and end, pages by limit and cursor", hint="use one pair"
        )
    first = start or 0
    behind = first + _LIMIT if end is None else end
    if by_rows and not 0 <= behind - first <= MOST:
        raise ConfigError(
            f"start={first}, end={behind} are no {MOST} rows or fewer",
            hint="ask for some of them at a time",
        )

    def found() -> models.CheckpointPage:
        store = site.store
        if by_rows:
            listed = listing.rows(store, question, start=first, end=behind)
        else:
            listed = listing.page(store, question, limit=limit or _LIMIT, cursor=cursor)
        return models.CheckpointPage(
            items=[models.CheckpointAnswer(**facts(one)) for one in listed.items],
            next=listed.cursor,
            total=listed.total,
        )

    return await answer(site, found)


@router.get("/checkpoints/{reference}", response_model=models.CheckpointDetail)
async def show_checkpoint(site: Shown, reference: str) -> Response:
    """Show one checkpoint in full, by its id or by a reference such as `run@best`."""

    def found() -> models.CheckpointDetail:
        store = site.store
        checkpoint = store.get(reference_of(reference))
        return models.CheckpointDetail(
            **facts(checkpoint),
            path=str(checkpoint.path),
            config=models.plain(checkpoint.config),
            contents=[_item(checkpoint, name) for name in checkpoint.manifest.items],
            lineage=_lineage(ancestry_of(store, checkpoint)),
            explanation=_explanation(store.explain(checkpoint.id)),
        )

    return await answer(site, found)


@router.get("/explain", response_model=models.Explanation)
async def explain(site: Shown, of: Reference) -> Response:
    """Tell why a step was saved or not, and what became of its checkpoint, deleted or not."""
    return await answer(site, lambda: _explanation(site.store.explain(reference_of(of))))


@router.get("/diff", response_model=models.DifferenceAnswer)
async def diff(
    site: Shown,
    request: Request,
    a: Reference,
    b: Reference,
    *,
    norms: Annotated[bool, Query(description="Read the tensors that changed.")] = False,
) -> Response:
    """Tell how two checkpoints differ: metrics, configuration, tensors."""

    def compared() -> models.DifferenceAnswer:
        found = site.store.diff(reference_of(a), reference_of(b), norms=norms)
        return models.DifferenceAnswer.model_validate(found.as_dict())

    if not norms:
        return await answer(site, compared)
    reading: asyncio.Semaphore = request.app.state.reading
    async with reading:
        return await answer(site, compared)


def facts(checkpoint: holdfast.Checkpoint) -> dict[str, Any]:
    """Returns what the catalog knows of a checkpoint."""
    info = checkpoint.info
    return {
        "id": info.id,
        "run": info.run,
        "step": info.step,
        "epoch": info.epoch,
        "created_at": info.created_at,
        "kind": info.kind,
        "reason": info.reason,
        "metrics": dict(info.metrics),
        "items": list(info.items),
        "tags": list(info.tags),
        "pinned": info.pinned,
        "thinned": info.thinned,
        "damaged": info.damaged,
        "awaiting": list(info.awaiting),
        "parent": info.parent,
        "nbytes": checkpoint.nbytes,
        "stored_nbytes": checkpoint.stored_nbytes,
        "metadata": models.plain(checkpoint.metadata),
    }


def _item(checkpoint: holdfast.Checkpoint, name: str) -> models.ItemAnswer:
    stored = checkpoint.manifest.items[name]
    return models.ItemAnswer(
        name=name,
        nbytes=stored.nbytes,
        finite=stored.finite,
        tensors=[models.TensorAnswer.model_validate(one) for one in checkpoint.tensors(name)],
    )


def _lineage(found: Ancestry) -> models.LineageAnswer:
    return models.LineageAnswer(
        parents=[models.Relative.model_validate(one) for one in found.parents],
        lost=found.lost,
        children=[models.Relative.model_validate(one) for one in found.children],
    )


def _explanation(told: Any) -> models.Explanation:
    return models.Explanation(
        run=told.run,
        step=told.step,
        checkpoint=told.checkpoint.id if told.checkpoint else None,
        reports=[models.Report.model_validate(row) for row in told.rows],
        decisions=[models.DecisionAnswer.of(one) for one in told.decisions],
    )
