"""How a question is answered: away from the event loop, and with one shape for all errors."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from holdfast.dashboard.api.models import ErrorAnswer
from holdfast.dashboard.problems import Problem, RefusedError, away, of_status, problem_of
from holdfast.dashboard.site import Site
from holdfast.errors import HoldfastError

#: What each route may answer with besides its own.
ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    kind: {"model": ErrorAnswer, "description": said}
    for kind, said in (
        (422, "An argument cannot be meant."),
        ("4XX", "The request cannot be answered as it is."),
        ("5XX", "The store or the server is in trouble."),
    )
}


def shown(request: Request) -> Site:
    """Returns the store on show, whatever its state."""
    site: Site = request.app.state.site
    return site


#: The store on show. Asking a store that is away is an error that `add_handlers` knows.
Shown = Annotated[Site, Depends(shown)]


async def answer(site: Site, question: Callable[[], BaseModel], *, status: int = 200) -> Response:
    """Returns an answer that was found, and written as JSON, in a thread of its own.

    Args:
        site: The store on show.
        question: What finds it.
        status: The status when it is found.
    """

    def written() -> str:
        return question().model_dump_json()

    return Response(await site.ask(written), status, media_type="application/json")


def run_named(run: str) -> str:
    """Returns the name of a run out of an address, where ``+`` stands for ``/``, as on disk.

    In a query ``+`` reads as a space, which no name holds.
    """
    return run.replace(" ", "/").replace("+", "/")


def reference_of(text: str) -> str:
    """Returns a reference out of an address: ``study+trial-7@best`` with its slash, or an id."""
    run, at, rest = text.partition("@")
    return f"{run_named(run)}@{rest}" if at else text.replace(" ", "+")


def add_handlers(app: FastAPI) -> None:
    """Makes an application answer every error in one shape."""
    app.add_exception_handler(HoldfastError, _of_holdfast)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(Exception, _of_anything)


def _respond(problem: Problem) -> Response:
    return Response(
        problem.body(), problem.status, dict(problem.headers), media_type="application/json"
    )


async def _of_holdfast(request: Request, error: Exception) -> Response:
    if not isinstance(error, HoldfastError):
        raise error
    site: Site | None = getattr(request.app.state, "site", None)
    if site is not None and site.state.standing != "ok" and not isinstance(error, RefusedError):
        # It went away while it was asked.
        return _respond(away(site.state.text, site.state.hint))
    return _respond(problem_of(error))


async def _of_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    path, method = request.scope["path"], request.method
    said = {
        404: (f"there is nothing at {path}", "/api/v1/openapi.json lists what there is"),
        405: (f"{path} knows no {method}", "the header Allow lists what it knows"),
    }
    message, hint = said.get(error.status_code, (str(error.detail), ""))
    problem = of_status(error.status_code, message, hint)
    return Response(problem.body(), error.status_code, error.headers, media_type="application/json")


async def _of_validation(_: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    found = [
        f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()
    ]
    problem = Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "ValidationError",
        "; ".join(found),
        "/api/v1/openapi.json says what each argument may be",
    )
    return _respond(problem)


async def _of_anything(_: Request, __: Exception) -> Response:
    # What it is stands in the server's log; it is nobody else's business.
    return _respond(of_status(500, "the server made a mistake", "its log says which"))
