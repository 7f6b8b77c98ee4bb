"""Who may read, and who may act: asked before anything else sees a request."""

from __future__ import annotations

import time
from collections.abc import Iterable, MutableMapping
from typing import Any, Final, Literal
from urllib.parse import quote

from starlette.requests import HTTPConnection, cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holdfast.dashboard import headers
from holdfast.dashboard.addresses import Addresses, same_origin
from holdfast.dashboard.problems import Problem, of_status
from holdfast.dashboard.sessions import Attempts, Clock, Sessions, Token

LOGIN: Final = "/login"
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
#: RFC 6455, 7.4.1: a message that breaks a rule.
_POLICY: Final = 1008

Caller = Literal["nobody", "bearer", "session"]


class Gate:
    """Who may come in, and who may change anything.

    Without a token everything is read-only, whatever a caller says. With one, actions need it; and
    where the server listens beyond loopback, everything does.

    Args:
        addresses: The names that the server answers to.
        token: What lets somebody act; None where nobody may.
        clock: Seconds that only grow.
    """

    def __init__(
        self, addresses: Addresses, *, token: str | None = None, clock: Clock = time.monotonic
    ) -> None:
        self._addresses = addresses
        self._token = None if token is None else Token(token)
        self._sessions = Sessions(clock)
        self._attempts = Attempts(clock)
        # Cookies know no ports: two dashboards on one machine must not end each other's sessions.
        self._cookie = f"holdfast_{addresses.port}"

    @property
    def has_token(self) -> bool:
        """Whether somebody could act at all."""
        return self._token is not None

    def may_act(self, where: HTTPConnection | MutableMapping[str, Any]) -> bool:
        """Returns whether the caller of a request may change anything.

        Args:
            where: A request, or its ASGI scope.
        """
        scope = where.scope if isinstance(where, HTTPConnection) else where
        return self._caller(scope) != "nobody"

    def guard(self, app: ASGIApp) -> Guarded:
        """Returns an application of which nothing is seen but through this gate."""
        return Guarded(self, app)

    # -- logging in --------------------------------------------------------------------------

    def log_in(self, token: str, *, client: str, secure: bool) -> str | Problem:
        """Returns the cookie that goes with a token.

        Args:
            token: What somebody says that it is.
            client: Their address.
            secure: Whether the cookie may travel by https alone.
        """
        refused = self._tried(token, client)
        if refused is not None:
            return refused
        flags = f"; Path=/; HttpOnly; SameSite=Strict; Max-Age={self._sessions.lasts_s}"
        return f"{self._cookie}={self._sessions.begin()}{flags}{'; Secure' if secure else ''}"

    def log_out(self, scope: Scope) -> str:
        """Ends a caller's session, and returns the cookie that forgets it."""
        self._sessions.end(self._session(scope))
        return f"{self._cookie}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"

    def _tried(self, token: str, client: str) -> Problem | None:
        """Returns why a token is refused; None where it is the one."""
        wait = self._attempts.wait_s(client)
        # Compared in any case: a right one is not told from a wrong one by the time it takes.
        right = self._token is not None and self._token.matches(token)
        if wait:
            return of_status(
                429,
                "too many wrong tokens were tried",
                f"wait {wait} seconds",
                retry_after=str(wait),
            )
        if not right:
            self._attempts.failed(client)
            return of_status(
                401,
                "this is not the token",
                "the one that `holdfast dashboard` was started with, or printed",
                www_authenticate="Bearer",
            )
        return None

    # -- who it is ---------------------------------------------------------------------------

    def _caller(self, scope: MutableMapping[str, Any]) -> Caller:
        bearer = _bearer(scope)
        if self._token is None:
            return "nobody"
        if bearer is not None and self._token.matches(bearer):
            # Who tried too often is not told whether this one is right.
            return "nobody" if self._attempts.wait_s(client_of(scope)) else "bearer"
        return "session" if self._sessions.holds(self._session(scope)) else "nobody"

    def _session(self, scope: MutableMapping[str, Any]) -> str:
        cookies = "; ".join(_headers(scope, b"cookie"))
        return cookie_parser(cookies).get(self._cookie, "")

    def refusal(self, scope: Scope) -> Problem | None:
        """Returns why a request may not come in; None where it may.

        Args:
            scope: An ASGI scope of kind ``http`` or ``websocket``.
        """
        hosts, origins = list(_headers(scope, b"host")), list(_headers(scope, b"origin"))
        if len(hosts) != 1 or not self._addresses.admit(hosts[0], dialled=scope.get("server")):
            return of_status(
                403,
                "the server does not answer to this name",
                "call it by its address, or start it with --allow-host NAME",
            )
        if len(origins) > 1 or (origins and not same_origin(origins[0], hosts[0])):
            return of_status(403, "the request comes from a page of another server")
        if _embedded_elsewhere(scope):
            return of_status(403, "the request comes from a page of another server")
        return self._unlawful(scope, said_origin=bool(origins))

    def _unlawful(self, scope: Scope, *, said_origin: bool) -> Problem | None:
        bearer = _bearer(scope)
        if self._token is not None and bearer is not None:
            refused = self._tried(bearer, client_of(scope))
            if refused is not None:
                return refused
        path = scope["path"]
        if path == LOGIN:
            return None
        acts = (
            scope["type"] == "http" and scope["method"] not in _SAFE and not headers.is_page(path)
        )
        if acts and self._token is None:
            return of_status(
                403,
                "this server is read-only",
                "start it with --token to let those act who have the token",
            )
        if not (acts or self._addresses.beyond):
            return None
        caller = self._caller(scope)
        if caller == "nobody":
            return of_status(
                401,
                "this needs the token",
                f"log in at {LOGIN}, or send it as Authorization: Bearer",
                www_authenticate="Bearer",
            )
        if acts and caller == "session" and not said_origin:
            # A browser says where a request that acts comes from; what does not is none.
            return of_status(
                403, "an action with a cookie has to say its origin", "send the token instead"
            )
        return None


class Guarded:
    """An application behind a gate.

    Attributes:
        app: The application.
    """

    def __init__(self, gate: Gate, app: ASGIApp) -> None:
        self._gate = gate
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request through, or refuses it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        problem = self._gate.refusal(scope)
        if scope["type"] == "websocket":
            if problem is not None:
                await send({"type": "websocket.close", "code": _POLICY, "reason": problem.message})
                return
            await self.app(scope, receive, send)
            return
        # A host that was not admitted is not repeated.
        host = "" if problem is not None else next(iter(_headers(scope, b"host")), "")
        extra = headers.for_answer(scope["path"], host)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = _over(message.get("headers", ()), extra)
            await send(message)

        if problem is None:
            await self.app(scope, receive, answer)
        else:
            await _refuse(scope, problem, answer)


def client_of(scope: MutableMapping[str, Any]) -> str:
    """Returns the address of the one who asks."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def _bearer(scope: MutableMapping[str, Any]) -> str | None:
    for value in _headers(scope, b"authorization"):
        scheme, _, token = value.partition(" ")
        if scheme.lower() == "bearer":
            return token.strip()
    return None


def _headers(scope: MutableMapping[str, Any], name: bytes) -> Iterable[str]:
    return (value.decode("latin-1") for key, value in scope["headers"] if key == name)


def _over(
    given: Iterable[tuple[bytes, bytes]], extra: Iterable[tuple[bytes, bytes]]
) -> list[tuple[bytes, bytes]]:
    """Returns headers in which those of the gate replace the application's."""
    ours = dict(extra)
    return [*((k, v) for k, v in given if k.lower() not in ours), *ours.items()]


async def _refuse(scope: Scope, problem: Problem, send: Send) -> None:
    status, body = problem.status, problem.body()
    said = {**problem.headers, "content-type": "application/json"}
    if status == 401 and scope["method"] == "GET" and _wants_page(scope):
        path = quote(scope["path"]) if scope["path"] != "/" else ""
        status, body = 303, b""
        said = {"location": f"{LOGIN}?next={path}" if path else LOGIN}
    said["content-length"] = str(len(body))
    raw = [(name.encode(), value.encode("latin-1")) for name, value in said.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    # HTTP has no body behind HEAD (RFC 9110, 9.3.2).
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _embedded_elsewhere(scope: Scope) -> bool:
    """Returns whether a page of another server loads this as a part of itself.

    What it loads so it could not read; but it could hold connections, or tell by their success
    what is here (https://www.w3.org/TR/fetch-metadata/).
    """
    site, mode = (
        next(iter(_headers(scope, name)), "") for name in (b"sec-fetch-site", b"sec-fetch-mode")
    )
    return site in ("cross-site", "same-site") and mode != "navigate"


def _wants_page(scope: Scope) -> bool:
    return any("text/html" in value for value in _headers(scope, b"accept"))
