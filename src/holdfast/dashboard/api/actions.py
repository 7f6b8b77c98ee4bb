"""What changes something about a checkpoint, and work that is done in the background.

The gate lets nobody in here who may not act.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

import holdfast
from holdfast.dashboard.api import models
from holdfast.dashboard.api.answering import (
    ERRORS,
    Shown,
    answer,
    reference_of,
)
from holdfast.dashboard.api.checkpoints import facts
from holdfast.dashboard.jobs import Job, Jobs, Progress
from holdfast.dashboard.site import Site

router = APIRouter(responses=ERRORS, tags=["actions"])

Name = Annotated[str, Field(max_length=400)]


class Asked(BaseModel):
    """What an action is told."""

    model_config = ConfigDict(extra="forbid")


class Tags(Asked):
    """Tags to add."""

    tags: list[Name] = Field(min_length=1, max_length=100)


class VerifyAsked(Asked):
    """What to read and compare."""

    target: Name | None = Field(
        default=None, description="A run or a reference; left out, everything."
    )
    since: Name | None = Field(default=None, description="Leave out what was verified since: `7d`.")
    rate: Name | None = Field(default=None, description="How fast is read: `50MB/s`.")


class MirrorAsked(Asked):
    """What to mirror, to the mirrors that the store has."""

    run: Name | None = Field(default=None, description="Only this run; left out, all.")


class JobAnswer(models.Answer):
    """A piece of work."""

    id: str
    kind: Literal["verify", "mirror"]
    state: Literal["running", "done", "failed"]
    started_at: models.Seconds
    ended_at: models.Seconds | None
    done_nbytes: models.Nbytes
    total_nbytes: models.Nbytes = Field(description="As it was at the beginning.")
    result: dict[str, Any] | None
    error: models.ErrorBody | None = Field(description="Why it failed.")

    @classmethod
    def of(cls, job: Job) -> JobAnswer:
        """Returns the answer that a job is."""
        problem = job.problem
        return cls(
            id=job.id,
            kind=job.kind,
            state=job.state,
            started_at=job.started_at,
            ended_at=job.ended_at,
            done_nbytes=job.done_nbytes,
            total_nbytes=job.total_nbytes,
            result=None if job.result is None else models.plain(dict(job.result)),
            error=None
            if problem is None
            else models.ErrorBody(kind=problem.kind, message=problem.message, hint=problem.hint),
        )


class JobList(models.Answer):
    """The work that this server knows of, newest first."""

    items: list[JobAnswer]


@router.post("/checkpoints/{reference}/pin", response_model=models.CheckpointAnswer)
async def pin(site: Shown, reference: str) -> Response:
    """Protect a checkpoint from every policy."""
    return await _say(site, reference, lambda checkpoint: checkpoint.pin())


@router.post("/checkpoints/{reference}/unpin", response_model=models.CheckpointAnswer)
async def unpin(site: Shown, reference: str) -> Response:
    """Leave a checkpoint to the policies again."""
    return await _say(site, reference, lambda checkpoint: checkpoint.unpin())


@router.post("/checkpoints/{reference}/tags", response_model=models.CheckpointAnswer)
async def tag(site: Shown, reference: str, asked: Tags) -> Response:
    """Add tags to a checkpoint."""
    return await _say(site, reference, lambda checkpoint: checkpoint.tag(*asked.tags))


@router.delete("/checkpoints/{reference}/tags/{tag}", response_model=models.CheckpointAnswer)
async def untag(site: Shown, reference: str, tag: str) -> Response:
    """Take a tag away; one that the checkpoint does not have is no error."""
    return await _say(site, reference, lambda checkpoint: checkpoint.untag(tag))


@router.post("/verify", response_model=JobAnswer, status_code=202)
async def verify(
    site: Shown, request: Request, asked: Annotated[VerifyAsked | None, Body()] = None
) -> Response:
    """Read checkpoints in full and compare every digest, in the background."""
    told = asked or VerifyAsked(target=None, since=None, rate=None)
    jobs: Jobs = request.app.state.jobs

    def begun() -> JobAnswer:
        store = site.store
        # What cannot be meant is said now, and not by the job.
        total = store.verify_nbytes(told.target, since=told.since)
        return JobAnswer.of(
            jobs.start(
                "verify",
                lambda progress: store.verify(
                    told.target, since=told.since, rate=told.rate, progress=progress
                ).as_dict(),
                total_nbytes=total,
            )
        )

    return await answer(site, begun, status=202)


@router.post("/mirror", response_model=JobAnswer, status_code=202)
async def mirror(
    site: Shown, request: Request, asked: Annotated[MirrorAsked | None, Body()] = None
) -> Response:
    """Bring the mirrors that the store has up to date, in the background."""
    run = asked.run if asked else None
    jobs: Jobs = request.app.state.jobs

    def begun() -> JobAnswer:
        store = site.store
        total = sum(checkpoint.nbytes for checkpoint in store.checkpoints(run))
        return JobAnswer.of(
            jobs.start(
                "mirror",
                lambda progress: _mirrored(store, run, progress),
                total_nbytes=total,
            )
        )

    return await answer(site, begun, status=202)


@router.get("/jobs", response_model=JobList)
async def list_jobs(site: Shown, request: Request) -> Response:
    """List the work that this server was told to do."""
    jobs: Jobs = request.app.state.jobs
    return await answer(site, lambda: JobList(items=[JobAnswer.of(job) for job in jobs.all()]))


@router.get("/jobs/{job}", response_model=JobAnswer)
async def show_job(site: Shown, request: Request, job: str) -> Response:
    """Tell how far a piece of work is, what it found, or why it failed."""
    jobs: Jobs = request.app.state.jobs
    return await answer(site, lambda: JobAnswer.of(jobs.get(job)))


def _mirrored(store: holdfast.Store, run: str | None, progress: Progress) -> dict[str, Any]:
    found = store.mirror(run, progress=progress)
    return {"ok": all(one.ok for one in found), "mirrors": [one.as_dict() for one in found]}


async def _say(site: Site, reference: str, said: Callable[[holdfast.Checkpoint], None]) -> Response:
    def done() -> models.CheckpointAnswer:
        checkpoint = site.store.get(reference_of(reference))
        said(checkpoint)
        return models.CheckpointAnswer(**facts(checkpoint))

    return await answer(site, done)
