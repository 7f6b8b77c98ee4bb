"""Which names a server answers to: what a browser was led here by must be one of ours.

A page on the net can make a browser send requests to this machine, under a name of its own that it
lets point here (DNS rebinding), or from its own origin. The ``Host`` of the first and the
``Origin`` of the second give them away (RFC 9110, 7.2;
https://fetch.spec.whatwg.org/#origin-header).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from holdfast.errors import ConfigError

_HOST: Final = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::(?P<port>\d{1,5}))?")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """A host with its port; None where none was said."""

    name: str
    port: int | None

    @classmethod
    def parse(cls, text: str) -> Address | None:
        """Returns the address that a ``Host`` header says; None where it says none."""
        match = _HOST.fullmatch(text.strip().lower())
        if match is None:
            return None
        port = match["port"]
        return cls(match["name"].strip("[]").rstrip("."), int(port) if port else None)


@dataclass(frozen=True, slots=True)
class Addresses:
    """The names that a server answers to.

    Attributes:
        port: The port that it listens at.
        named: Others that it may be called, besides loopback's.
        beyond: Whether others than this machine may reach it: it listens beyond loopback, or has
            a name, a proxy's perhaps. Then the address that a connection was made to is a name,
            too: a number cannot be made to point elsewhere.
    """

    port: int
    named: frozenset[Address] = frozenset()
    beyond: bool = False

    @classmethod
    def of(cls, host: str, port: int, *, allowed: Iterable[str] = ()) -> Addresses:
        """Returns the names of a server.

        Args:
            host: What it was told to listen at.
            port: Its port.
            allowed: ``name`` or ``name:port``: what else it is called, by a proxy for example.

        Raises:
            ConfigError: One of these is no name.
        """
        named = set()
        for text in allowed:
            address = Address.parse(text)
            if address is None:
                raise ConfigError(
                    f"{text!r} is not the name of a host", hint="write name or name:port"
                )
            named.add(address)
        beyond = not (is_loopback(host) and all(is_loopback(address.name) for address in named))
        own = Address.parse(f"[{host}]" if ":" in host else host)
        if own is not None and not is_loopback(host):
            named.add(Address(own.name, port))
        return cls(port, frozenset(named), beyond)

    def admit(self, host: str, *, dialled: tuple[str, int] | None = None) -> bool:
        """Returns whether a ``Host`` header names this server.

        Args:
            host: The header.
            dialled: The address and port that the connection was made to.
        """
        address = Address.parse(host)
        if address is None:
            return False
        if address in self.named or Address(address.name, None) in self.named:
            return True
        if (address.port or _DEFAULT_PORTS["http"]) != self.port:
            return False
        return is_loopback(address.name) or (
            self.beyond and dialled is not None and _same_number(address.name, dialled[0])
        )


def same_origin(origin: str, host: str) -> bool:
    """Returns whether an ``Origin`` header speaks of the server that a ``Host`` header names."""
    parts = urlsplit(origin)
    default = _DEFAULT_PORTS.get(parts.scheme)
    theirs, ours = Address.parse(parts.netloc), Address.parse(host)
    if default is None or theirs is None or ours is None:
        return False
    return (theirs.name, theirs.port or default) == (ours.name, ours.port or default)


def is_loopback(name: str) -> bool:
    """Returns whether a name or an address is this machine's alone (RFC 6761, 6.3)."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _same_number(name: str, address: str) -> bool:
    try:
        return ipaddress.ip_address(name) == ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
