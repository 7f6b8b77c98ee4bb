"""How a run went: its metrics, its decisions, what became of its checkpoints."""

from __future__ import annotations

import difflib
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from holdfast.dashboard.api import models
from holdfast.dashboard.api.answering import ERRORS, Shown, answer, reference_of, run_named
from holdfast.errors import ConfigError, NotFoundError
from holdfast.insight import Course, marks_of
from holdfast.model import Decision, Fate

router = APIRouter(responses=ERRORS, tags=["runs"])

_MOST_METRICS = 32
_MOST_POINTS = 10_000
_FAR = 2**62

Step = Annotated[int | None, Query(ge=-_FAR, le=_FAR)]


@router.get("/runs/{run}/metrics", response_model=models.MetricNames)
async def list_metrics(site: Shown, run: str) -> Response:
    """List the metrics that a run reported; its own one stands apart."""

    def found() -> models.MetricNames:
        own = site.store[run_named(run)].metric
        return models.MetricNames(items=site.overview.course(run_named(run)).metrics, metric=own)

    return await answer(site, found)


@router.get("/runs/{run}/series", response_model=models.SeriesList)
async def show_series(
    site: Shown,
    run: str,
    *,
    metric: Annotated[
        list[str] | None,
        Query(max_length=_MOST_METRICS, description="Which; left out, the run's own."),
    ] = None,
    points: Annotated[
        int, Query(ge=4, le=_MOST_POINTS, description="Thinned to so many, extremes kept.")
    ] = 1000,
    first: Annotated[Step, Query(alias="from", description="The first step.")] = None,
    last: Annotated[Step, Query(alias="to", description="The last step.")] = None,
) -> Response:
    """Show how metrics went, thinned so that they look as they are."""

    def found() -> models.SeriesList:
        own = site.store[run_named(run)].metric
        course = site.overview.course(run_named(run))
        names = metric or ([own] if own else [])
        if not names:
            raise ConfigError(
                f"the run {course.name} has no metric of its own", hint="name one: metric=loss"
            )
        return models.SeriesList(
            run=course.name,
            items=[_series(course, name, points, first, last) for name in dict.fromkeys(names)],
        )

    return await answer(site, found)


@router.get("/runs/{run}/decisions", response_model=models.DecisionPage)
async def list_decisions(
    site: Shown,
    run: str,
    *,
    fate: Annotated[Fate | None, Query(description="Only these.")] = None,
    step: Step = None,
    checkpoint: Annotated[
        str | None, Query(max_length=300, description="Only those on this checkpoint's id.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    before: Annotated[
        int | None, Query(ge=0, le=_FAR, description="`next` of the page before.")
    ] = None,
) -> Response:
    """List what was decided, newest first."""
    asked = checkpoint and reference_of(checkpoint)

    def matches(decision: Decision) -> bool:
        return (
            fate in (None, decision.fate)
            and step in (None, decision.step)
            and asked in (None, decision.checkpoint_id)
        )

    def found() -> models.DecisionPage:
        decisions = site.overview.course(run_named(run)).decisions
        # Numbers count from the oldest: what is decided meanwhile shifts no page.
        chosen = [(n, one) for n, one in enumerate(decisions) if matches(one)]
        left = [pair for pair in chosen if before is None or pair[0] < before]
        shown = left[-limit:][::-1]
        return models.DecisionPage(
            items=[models.DecisionAnswer.of(one) for _, one in shown],
            next=shown[-1][0] if len(left) > limit else None,
            total=len(chosen),
        )

    return await answer(site, found)


@router.get("/runs/{run}/marks", response_model=models.MarkList)
async def list_marks(site: Shown, run: str) -> Response:
    """List what became of each checkpoint, by step: the dots on a chart."""

    def found() -> models.MarkList:
        reader = site.store[run_named(run)]
        marks = marks_of(reader, site.overview.course(reader.name))
        return models.MarkList(items=[models.MarkAnswer.model_validate(one) for one in marks])

    return await answer(site, found)


def _series(
    course: Course, name: str, points: int, first: int | None, last: int | None
) -> models.SeriesAnswer:
    known = course.metrics
    if name not in known:
        nearest = tuple(difflib.get_close_matches(name, known, n=3))
        raise NotFoundError(
            f"the run {course.name} has reported no {name!r}",
            hint=f"it reported {', '.join(known) or 'nothing'}",
            nearest=nearest,
        )
    series = course.series(name).between(first, last)
    thin = series.thinned(points)
    return models.SeriesAnswer(
        metric=name,
        steps=thin.steps.tolist(),
        at=thin.at.tolist(),
        values=thin.values.tolist(),
        total=series.total,
    )
