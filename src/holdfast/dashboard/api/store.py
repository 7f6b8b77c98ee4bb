"""The store as a whole: how it stands, what it takes."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

import holdfast
from holdfast.dashboard.api import models
from holdfast.dashboard.api.answering import ERRORS, Shown, answer
from holdfast.errors import HoldfastError

router = APIRouter(responses=ERRORS, tags=["store"])


@router.get("/health", response_model=models.Health)
async def health(site: Shown) -> Response:
    """Tell how the store stands and what needs attention; answers also where there is no store."""

    def found() -> models.Health:
        state, alerts = site.state, []
        if state.standing == "ok":
            try:
                alerts = [models.AlertAnswer.model_validate(a) for a in site.overview.alerts()]
            except HoldfastError:
                if site.state.standing == "ok":
                    raise
                # It went away meanwhile: that is the answer.
                state = site.state
        return models.Health(
            holdfast=holdfast.__version__,
            store=site.url,
            standing=state.standing,
            text=state.text,
            hint=state.hint,
            version=site.version,
            alerts=alerts,
        )

    return await answer(site, found)


@router.get("/usage", response_model=models.UsageAnswer)
async def usage(site: Shown) -> Response:
    """Tell what takes space, per run and in all; shared bytes are counted once."""

    def found() -> models.UsageAnswer:
        took, budget = site.overview.usage()
        told = models.UsageAnswer.model_validate(took.as_dict())
        if budget is not None:
            told.budget = models.BudgetAnswer.model_validate(budget)
        return told

    return await answer(site, found)
