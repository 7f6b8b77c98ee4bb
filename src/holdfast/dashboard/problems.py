"""What a request is refused with: one shape for all errors, whoever found them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from holdfast.errors import (
    ConfigError,
    FormatError,
    HoldfastError,
    IntegrityError,
    LockedError,
    MetricError,
    NotFoundError,
    StorageFullError,
    TreeError,
)

#: The first that fits counts. What is stored wrongly is the server's trouble, not the caller's.
_STATUS: Final[tuple[tuple[type[HoldfastError], HTTPStatus], ...]] = (
    (NotFoundError, HTTPStatus.NOT_FOUND),
    (ConfigError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (MetricError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (TreeError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (LockedError, HTTPStatus.CONFLICT),
    (StorageFullError, HTTPStatus.INSUFFICIENT_STORAGE),
    (IntegrityError, HTTPStatus.INTERNAL_SERVER_ERROR),
    (FormatError, HTTPStatus.INTERNAL_SERVER_ERROR),
)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a request was not answered.

    Attributes:
        status: The HTTP status.
        kind: What kind of error it is: the name of its class, or of the status.
        message: What is wrong, naming the thing.
        hint: What to do about it.
        nearest: Names that exist and look like the one asked for; None where that says nothing.
        headers: Headers that go with it.
    """

    status: int
    kind: str
    message: str
    hint: str = ""
    nearest: tuple[str, ...] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Returns the body of the answer."""
        said: dict[str, Any] = {"kind": self.kind, "message": self.message, "hint": self.hint}
        if self.nearest is not None:
            said["nearest"] = list(self.nearest)
        return {"error": said}

    def body(self) -> bytes:
        """Returns the body as JSON."""
        return json.dumps(self.as_dict()).encode()


class RefusedError(HoldfastError):
    """A request that is refused for a reason that only a server knows."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message, hint=problem.hint)
        self.problem = problem


def problem_of(error: HoldfastError) -> Problem:
    """Returns what an error of Holdfast's is to the one who asked."""
    if isinstance(error, RefusedError):
        return error.problem
    status = next(
        (status for kind, status in _STATUS if isinstance(error, kind)),
        HTTPStatus.INTERNAL_SERVER_ERROR,
    )
    nearest = error.nearest if isinstance(error, NotFoundError) else None
    return Problem(status, type(error).__name__, error.message, error.hint, nearest)


def of_status(status: int, message: str, hint: str = "", **headers: str) -> Problem:
    """Returns a problem that is named after its status.

    Args:
        status: The HTTP status.
        message: What is wrong.
        hint: What to do about it.
        **headers: Headers, with ``_`` for ``-``.
    """
    kind = HTTPStatus(status).phrase.title().replace(" ", "").replace("-", "")
    named = {name.replace("_", "-").lower(): value for name, value in headers.items()}
    return Problem(status, kind, message, hint, headers=named)


def away(text: str, hint: str) -> Problem:
    """Returns the problem that the store cannot be shown now."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "StoreUnavailable",
        text,
        hint,
        # It is looked for once a second.
        headers={"retry-after": "1"},
    )
