"""Where a person gives the token, and gets a cookie for it."""

from __future__ import annotations

import html
from typing import Final
from urllib.parse import parse_qs, quote

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from holdfast.dashboard.gate import LOGIN, Gate, client_of
from holdfast.dashboard.problems import Problem

#: More than any token has, and the page it leads to.
_MOST_NBYTES: Final = 8192

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Holdfast: log in</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark; font-family: system-ui, sans-serif; }}
main {{ max-width: 22rem; margin: 15vh auto 0; padding: 0 1rem; }}
label, input, button {{ display: block; width: 100%; box-sizing: border-box; font: inherit; }}
input, button {{ padding: .6rem; margin: .4rem 0 1rem; }}
</style></head><body><main>
<h1>Holdfast</h1>
{said}
<form method="post" action="{action}">
<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button type="submit">Log in</button>
</form>
<p>It is the one that <code>holdfast dashboard</code> was started with, or printed.</p>
</main></body></html>
"""


def add(app: FastAPI, gate: Gate) -> None:
    """Adds logging in and out to an application.

    Args:
        app: The application.
        gate: Who knows the token.
    """

    @app.get(LOGIN, include_in_schema=False)
    def form(request: Request) -> Response:
        if not gate.has_token or gate.may_act(request):
            return RedirectResponse(_inside(request.query_params.get("next", "/")), 303)
        return _page(request, "")

    @app.post(LOGIN, include_in_schema=False)
    async def log_in(request: Request) -> Response:
        given = parse_qs((await _body(request)).decode("utf-8", "replace"))
        origin = request.headers.get("origin", "")
        answer = gate.log_in(
            next(iter(given.get("token", [])), ""),
            client=client_of(request.scope),
            # Behind a proxy that speaks https the connection itself does not.
            secure=request.url.scheme == "https" or origin.startswith("https:"),
        )
        if isinstance(answer, Problem):
            page = _page(request, f"{answer.message}: {answer.hint}", status=answer.status)
            page.headers.update(answer.headers)
            return page
        response = RedirectResponse(_inside(request.query_params.get("next", "/")), 303)
        response.headers["set-cookie"] = answer
        return response

    @app.post("/logout", include_in_schema=False)
    def log_out(request: Request) -> Response:
        response = RedirectResponse(LOGIN if gate.has_token else "/", 303)
        response.headers["set-cookie"] = gate.log_out(request.scope)
        return response


async def _body(request: Request) -> bytes:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _MOST_NBYTES:
            return b""
    return body


def _page(request: Request, said: str, *, status: int = 200) -> Response:
    to = _inside(request.query_params.get("next", "/"))
    action = LOGIN if to == "/" else f"{LOGIN}?next={quote(to)}"
    alert = f'<p role="alert">{html.escape(said)}</p>' if said else ""
    return HTMLResponse(_PAGE.format(said=alert, action=html.escape(action)), status)


def _inside(path: str) -> str:
    """Returns a path of this server; whatever leads elsewhere is its first page."""
    plain = path.isascii() and path.isprintable() and "\\" not in path
    return path if plain and path.startswith("/") and not path.startswith("//") else "/"
