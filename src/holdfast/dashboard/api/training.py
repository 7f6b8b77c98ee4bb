"""A training at a glance, at an address of its own: for a page that asks every second or two."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from holdfast.dashboard.api import models
from holdfast.dashboard.api.answering import ERRORS, Shown, answer, run_named
from holdfast.insight.training import HISTORY, newest, training_of

router = APIRouter(responses=ERRORS, tags=["training"])


@router.get("/training-metrics", response_model=models.TrainingMetrics)
async def training_metrics(
    site: Shown,
    run: Annotated[
        str | None,
        Query(max_length=200, description="A run; left out, the newest that is being trained."),
    ] = None,
    history: Annotated[int, Query(ge=0, le=HISTORY, description="How many reports.")] = HISTORY,
) -> Response:
    """Tell loss and accuracy now and at their best, how many steps, and where it is going."""

    def found() -> models.TrainingMetrics:
        store = site.store
        info = store[run_named(run)].info if run else newest(one.info for one in store.runs())
        if info is None:
            return models.TrainingMetrics()
        told = training_of(info, site.overview.course(info.name), history=history)
        return models.TrainingMetrics(
            run=info.name,
            status=info.status,
            current_loss=told.loss.current if told.loss else None,
            current_accuracy=told.accuracy.current if told.accuracy else None,
            best_loss=told.loss.best if told.loss else None,
            best_accuracy=told.accuracy.best if told.accuracy else None,
            loss_metric=told.loss.metric if told.loss else None,
            accuracy_metric=told.accuracy.metric if told.accuracy else None,
            training_steps=told.steps,
            trend=told.trend.direction if told.trend else None,
            trend_metric=told.trend_metric,
            last_training_at=told.last_at,
            history=[models.HistoryRow.model_validate(row) for row in told.history],
        )

    return await answer(site, found)
