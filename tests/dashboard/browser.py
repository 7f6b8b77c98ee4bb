"""A real browser on a real server: no error may be heard, and nothing asked for from outside."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
TOKEN = "a-token-for-the-tests-of-the-pages"
_AUDIT = (Path(__file__).parent / "audit.js").read_text(encoding="utf-8")
#: Far beyond what anything takes; only what never comes reaches it.
PATIENCE_MS = 30_000


@dataclass(frozen=True, slots=True)
class Serving:
    """A server: where it is, and its process."""

    url: str
    pid: int


@contextlib.contextmanager
def served(store: Path, *, token: str | None = None, budget: str | None = None) -> Iterator[str]:
    """Serves a store from a process of its own, and gives its address."""
    with serving(store, token=token, budget=budget) as server:
        yield server.url


@contextlib.contextmanager
def serving(
    store: Path, *, token: str | None = None, budget: str | None = None
) -> Iterator[Serving]:
    """Serves a store from a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("HOLDFAST_DASHBOARD_TOKEN", None)
    if token:
        environment["HOLDFAST_DASHBOARD_TOKEN"] = token
    command = [sys.executable, "-m", "holdfast", "--json", "dashboard", str(store), "--port", "0"]
    server = subprocess.Popen(
        [*command, *(["--budget", budget] if budget else [])],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        said = ""
        for line in server.stdout:
            said += line
            with contextlib.suppress(json.JSONDecodeError):
                yield Serving(json.loads(said)["url"].rstrip("/"), server.pid)
                break
    finally:
        server.terminate()
        server.wait(30)
        server.stdout.close()


class Visit:
    """A browser's window in which nothing may go wrong.

    Attributes:
        page: The window, as playwright has it.
        problems: What went wrong: errors in the console, and requests to elsewhere.
    """

    def __init__(self, browser: Any, url: str, *, width: int = 1280, dark: bool = False) -> None:
        self.url = url
        self.problems: list[str] = []
        self.context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
            permissions=["clipboard-read", "clipboard-write"],
        )
        self.context.set_default_timeout(PATIENCE_MS)
        self.context.route("**/*", self._admit)
        self.page = self.context.new_page()
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        self.page.on("websocket", lambda socket: self._check(socket.url))

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        hit = kind is None and self.page.evaluate("window.hit")
        self.context.close()
        if kind is None:
            assert self.problems == []
            assert hit is None, "something from the store was run"

    def go(self, path: str) -> Any:
        """Opens a page, and waits until it is drawn and connected."""
        self.page.goto(self.url + path)
        self.page.wait_for_function("window.did_handshake === true")
        self.page.wait_for_selector("main h1")
        return self.page

    def audit(self, what: str) -> Any:
        """Returns what one of the functions of ``audit.js`` finds in the page."""
        return self.page.evaluate(f"{_AUDIT.rstrip().removesuffix(';')}.{what}()")

    def _admit(self, route: Any) -> None:
        if self._check(route.request.url):
            route.continue_()
        else:
            route.abort()

    def _check(self, url: str) -> bool:
        parts = urlsplit(url)
        here = parts.netloc == urlsplit(self.url).netloc or parts.scheme in ("data", "blob")
        if not here:
            self.problems.append(f"asked for {url}")
        return here

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"{message.type}: {message.text}")
