"""Clean-ups: a plan that is shown, and then that plan and no other carried out."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Request
from fastapi.responses import Response
from pydantic import Field

import holdfast
from holdfast.dashboard.api import models
from holdfast.dashboard.api.actions import Asked, Name
from holdfast.dashboard.api.answering import ERRORS, Shown, answer
from holdfast.errors import LockedError, NotFoundError

router = APIRouter(responses=ERRORS, tags=["actions"])

_MOST_PLANS: Final = 100


class PlanAsked(Asked):
    """Which clean-up to plan."""

    run: Name | None = Field(default=None, description="Only this run; left out, all.")
    policy: Annotated[str, Field(max_length=2000)] | None = Field(
        default=None, description="`best(5) | latest(2)`; left out, what each run was opened with."
    )


class ApplyAsked(Asked):
    """Which plan to carry out."""

    fingerprint: Annotated[str, Field(max_length=100)]


class Planned(models.Answer):
    """What becomes of a checkpoint."""

    id: str
    run: str
    step: int
    metrics: dict[str, models.Number]
    reasons: list[str]
    items: list[str] = Field(description="The items that it has afterwards.")


class PlanAnswer(models.Answer):
    """What a clean-up keeps, thins and deletes, and why."""

    fingerprint: str = Field(description="What `prune/apply` takes.")
    applied: bool
    kept: list[Planned]
    thinned: list[Planned]
    deleted: list[Planned]
    freed_nbytes: models.Nbytes


class Plans:
    """The plans that were shown: what was asked for, by fingerprint."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: OrderedDict[str, PlanAsked] = OrderedDict()

    def remember(self, fingerprint: str, asked: PlanAsked) -> None:
        """Notes that a plan was shown."""
        with self._lock:
            self._asked[fingerprint] = asked
            self._asked.move_to_end(fingerprint)
            while len(self._asked) > _MOST_PLANS:
                self._asked.popitem(last=False)

    def asked(self, fingerprint: str) -> PlanAsked:
        """Returns what a plan was an answer to; raises `NotFoundError` where none was shown."""
        with self._lock:
            found = self._asked.get(fingerprint)
        if found is None:
            raise NotFoundError(
                "no plan with this fingerprint was shown", hint="ask for prune/plan first"
            )
        return found


@router.post("/prune/plan", response_model=PlanAnswer)
async def plan(
    site: Shown, request: Request, asked: Annotated[PlanAsked | None, Body()] = None
) -> Response:
    """Show what a clean-up would delete, and why; nothing is changed."""
    plans: Plans = request.app.state.plans
    told = asked or PlanAsked(run=None, policy=None)

    def made() -> PlanAnswer:
        store = site.store
        found = store.prune(told.run, policy=told.policy)
        fingerprint = _fingerprint(store, told, found)
        plans.remember(fingerprint, told)
        return _answer(found, fingerprint, applied=False)

    return await answer(site, made)


@router.post("/prune/apply", response_model=PlanAnswer)
async def apply(site: Shown, request: Request, asked: ApplyAsked) -> Response:
    """Carry out a plan that was shown; 409 where it would delete anything else by now."""
    plans: Plans = request.app.state.plans

    def done() -> PlanAnswer:
        store, told = site.store, plans.asked(asked.fingerprint)
        found = store.prune(told.run, policy=told.policy)
        if _fingerprint(store, told, found) != asked.fingerprint:
            raise LockedError(
                "the store has changed: the plan that was shown is not what would be done now",
                hint="ask for prune/plan again, and look at it",
            )
        return _answer(found.apply(), asked.fingerprint, applied=True)

    return await answer(site, done)


def _fingerprint(store: holdfast.Store, asked: PlanAsked, plan: holdfast.Plan) -> str:
    """Returns what tells a plan from one that takes away anything else."""
    said = {
        "store": store.id,
        "asked": [asked.run, asked.policy],
        "deleted": sorted(info.id for info in plan.deleted),
        "thinned": {name: sorted(items) for name, items in plan.remaining.items()},
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


def _answer(plan: holdfast.Plan, fingerprint: str, *, applied: bool) -> PlanAnswer:
    thinned = {info.id for info in plan.thinned}

    def described(info: holdfast.CheckpointInfo) -> Planned:
        return Planned(
            id=info.id,
            run=info.run,
            step=info.step,
            metrics=dict(info.metrics),
            reasons=list(plan.reasons[info.id]),
            items=list(plan.remaining.get(info.id, info.items)),
        )

    told: dict[str, Any] = {
        "kept": [described(info) for info in plan.kept if info.id not in thinned],
        "thinned": [described(info) for info in plan.thinned],
        "deleted": [described(info) for info in plan.deleted],
    }
    return PlanAnswer(
        fingerprint=fingerprint, applied=applied, freed_nbytes=plan.freed_nbytes, **told
    )
