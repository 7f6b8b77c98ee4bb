"""Who has logged in, and how often somebody tried to."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import math
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from holdfast.errors import ConfigError

Clock = Callable[[], float]

#: A token that is guessed at 30 times a minute for a year is not found at 16 characters.
FEWEST_CHARACTERS: Final = 16
_LASTS_S: Final = 12 * 3600.0
_MOST_SESSIONS: Final = 1000
_MOST_CLIENTS: Final = 1000


class Token:
    """What lets somebody act; it is compared in a time that says nothing about it.

    Args:
        text: The token.

    Raises:
        ConfigError: It is too short, or holds what no header can carry.
    """

    def __init__(self, text: str) -> None:
        if len(text) < FEWEST_CHARACTERS:
            raise ConfigError(
                f"the token has {len(text)} characters; it can be guessed",
                hint=f"take {FEWEST_CHARACTERS} or more, or let --token make one",
            )
        if not (text.isascii() and text.isprintable()) or " " in text:
            raise ConfigError(
                "the token holds characters that cannot be sent in a header",
                hint="take letters and digits, or let --token make one",
            )
        self._digest = _digest(text)

    def __repr__(self) -> str:
        return "<Token>"

    @staticmethod
    def make() -> str:
        """Returns a random one, of 256 bits."""
        return secrets.token_urlsafe(32)

    def matches(self, text: str) -> bool:
        """Returns whether a text is the token."""
        # Digests are of one length: not even the token's length shows.
        return hmac.compare_digest(self._digest, _digest(text))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


class Sessions:
    """Who has logged in: random ids, in memory alone, each for 12 hours.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # Digests: a dump of the memory holds nothing that a cookie could be made of.
        self._ends: dict[bytes, float] = {}

    def begin(self) -> str:
        """Returns the id of a new one."""
        self._sweep()
        if len(self._ends) >= _MOST_SESSIONS:
            del self._ends[min(self._ends, key=self._ends.__getitem__)]
        name = secrets.token_urlsafe(32)
        self._ends[_digest(name)] = self._clock() + _LASTS_S
        return name

    def holds(self, name: str) -> bool:
        """Returns whether an id is one that has not ended."""
        return self._ends.get(_digest(name), -math.inf) > self._clock()

    def end(self, name: str) -> None:
        """Ends one; an id that is none is no error."""
        self._ends.pop(_digest(name), None)

    def _sweep(self) -> None:
        now = self._clock()
        self._ends = {name: end for name, end in self._ends.items() if end > now}

    @property
    def lasts_s(self) -> int:
        """How long one lasts, in seconds."""
        return int(_LASTS_S)


@dataclass(slots=True)
class _Bucket:
    """Attempts that are left; they come back with time."""

    most: int
    every_s: float
    left: float
    at: float

    def fill(self, now: float) -> None:
        self.left = min(self.most, self.left + (now - self.at) / self.every_s)
        self.at = now

    def wait_s(self, now: float) -> float:
        self.fill(now)
        return 0.0 if self.left >= 1 else (1 - self.left) * self.every_s


class Attempts:
    """How often a wrong token may be tried: by one client, and by all.

    A client has 5 attempts, and one more every 12 seconds; all have 30, and one more every 2.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._all = _Bucket(30, 2.0, 30, clock())
        self._clients: OrderedDict[str, _Bucket] = OrderedDict()

    def wait_s(self, client: str) -> int:
        """Returns how many seconds a client has to wait before its next attempt; 0 for none."""
        now = self._clock()
        own = self._clients.get(_network(client))
        longest = max(self._all.wait_s(now), own.wait_s(now) if own else 0.0)
        return math.ceil(longest)

    def failed(self, client: str) -> None:
        """Notes that a client tried a wrong token."""
        now, network = self._clock(), _network(client)
        bucket = self._clients.setdefault(network, _Bucket(5, 12.0, 5, now))
        self._clients.move_to_end(network)
        # The oldest is forgotten: who has that many addresses meets the bound for all.
        while len(self._clients) > _MOST_CLIENTS:
            self._clients.popitem(last=False)
        for one in (bucket, self._all):
            one.fill(now)
            one.left -= 1


def _network(client: str) -> str:
    """Returns what one client has: an address, or of IPv6 a network of 64 bits."""
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return client
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, 64), strict=False))
