"""The server: a socket of its own, a clean end."""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import signal
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

import uvicorn
from fastapi import FastAPI

from holdfast.dashboard import pages
from holdfast.dashboard.addresses import Addresses, is_loopback
from holdfast.dashboard.application import Served, build
from holdfast.dashboard.gate import LOGIN, Gate
from holdfast.dashboard.sessions import Token
from holdfast.dashboard.site import Site
from holdfast.errors import ConfigError, LockedError

#: How long answers that are under way may take when the server ends.
_GRACE_S: Final = 1
#: How long a server that has our port may take to say what it is.
_PATIENCE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a server can be reached.

    Attributes:
        url: Its address, as a browser takes it.
        host: What it was told to listen at.
        port: Its port.
        store: The store that it shows.
        read_only: Whether nobody may act.
    """

    url: str
    host: str
    port: int
    store: str
    read_only: bool


def serve(
    store: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    token: str | None = None,
    allow: Iterable[str] = (),
    catalog: str | None = None,
    budget: int | str | None = None,
    ready: Callable[[Listening], None] = lambda _: None,
) -> None:
    """Serves a store until Ctrl-C or SIGTERM.

    Args:
        store: Its path or URL; it need not be there yet, and is not made.
        host: Where to listen.
        port: The port; 0 for any that is free.
        token: What lets somebody act; without it everything is read-only.
        allow: Further names that the server answers to.
        catalog: The store's catalog, where that is not its own.
        budget: Bytes that may be stored, or text such as ``"2GB"``.
        ready: Called once it can be reached.

    Raises:
        ConfigError: It would listen beyond this machine without a token, the token is too short,
            or the place cannot be listened at.
        LockedError: Another process has the port.
    """
    allow = tuple(allow)
    if token is None and Addresses.of(host, port, allowed=allow).beyond:
        raise ConfigError(
            f"others can reach {', '.join((host, *allow))}, and there is no token",
            hint="add --token, or listen at 127.0.0.1 alone",
        )
    if token is not None:
        # Before anything is bound.
        Token(token)
    with _bound(host, port) as bound:
        at = bound.getsockname()[1]
        gate = Gate(Addresses.of(host, at, allowed=allow), token=token)
        served = build(Site(store, catalog=catalog, budget=budget), gate, pages=_mount)
        shown = f"[{host}]" if ":" in host else host
        where = Listening(f"http://{shown}:{at}/", host, at, store, token is None)
        _Server(served, lambda: ready(where)).run(sockets=[bound])


def _mount(app: FastAPI, site: Site, gate: Gate) -> None:
    pages.mount(app, site, may_act=gate.may_act, log_in=LOGIN if gate.has_token else None)


class _Server(uvicorn.Server):
    """A server that ends by itself what waits for changes, and exits with 0."""

    def __init__(self, served: Served, ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                served.app,
                log_config=None,
                access_log=False,
                server_header=False,
                # A header must not say who the client is: attempts are counted by client.
                proxy_headers=False,
                timeout_graceful_shutdown=_GRACE_S,
                lifespan="on",
            )
        )
        self._served = served
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._served.stopping.set()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            # Asked twice: a thread that still reads is not waited for, and nothing is lost by it.
            os._exit(128 + sig)
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # The one it overrides raises them again at the end: a server that was asked to end, and
        # did, has not failed.
        asked = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in asked}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    """Yields a socket that has a place."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError, OverflowError) as error:
        raise ConfigError(
            f"{host}:{port} is no place to listen at: {error}", hint="try --host 127.0.0.1"
        ) from error
    with socket.socket(family, kind, protocol) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise ConfigError(
                    f"cannot listen at {host}:{port}: {error.strerror}",
                    hint="take another --host or --port; ports below 1024 need privileges",
                ) from error
            raise _taken(host, port) from error
        yield bound


def _taken(host: str, port: int) -> LockedError:
    other = _dashboard_at(host, port)
    if other is None:
        return LockedError(
            f"port {port} is taken by another program",
            hint="take another --port; 0 chooses a free one",
        )
    return LockedError(
        f"a dashboard has port {port} already; it shows {other}",
        hint="open that one, or take another --port; 0 chooses a free one",
        holder=f"the dashboard of {other}",
    )


def _dashboard_at(host: str, port: int) -> str | None:
    """Returns which store the dashboard at a place shows; None where none answers."""
    asked = host if is_loopback(host) else "127.0.0.1"
    connection = http.client.HTTPConnection(asked, port, timeout=_PATIENCE_S)
    try:
        connection.request("GET", "/api/v1/health")
        said: Any = json.loads(connection.getresponse().read(1 << 16))
        return str(said["store"]) if said.get("holdfast") else None
    except (OSError, http.client.HTTPException, ValueError, AttributeError, KeyError, TypeError):
        # Another program, whatever it says.
        return None
    finally:
        connection.close()
