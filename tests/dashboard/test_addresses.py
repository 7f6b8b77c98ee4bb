"""Which names a server answers to, and which pages may ask it."""

import pytest

from holdfast import ConfigError
from holdfast.dashboard.addresses import Addresses, same_origin

LOOPBACK = Addresses.of("127.0.0.1", 8765)
SIX = Addresses.of("::1", 8765)
PLAIN = Addresses.of("localhost", 80)
BEYOND = Addresses.of("0.0.0.0", 8765)
NAMED = Addresses.of("0.0.0.0", 8765, allowed=("dash.example", "other.example:8443"))
OWN = Addresses.of("gpu-7", 8765)
DIALLED = ("192.168.1.5", 8765)


@pytest.mark.parametrize(
    ("server", "host", "admitted"),
    [
        (LOOPBACK, "127.0.0.1:8765", True),
        (LOOPBACK, "localhost:8765", True),
        (LOOPBACK, "LOCALHOST:8765", True),
        (LOOPBACK, "localhost.:8765", True),
        (LOOPBACK, "[::1]:8765", True),
        (LOOPBACK, "127.9.9.9:8765", True),
        (SIX, "[::1]:8765", True),
        (PLAIN, "localhost", True),
        (LOOPBACK, "localhost", False),
        (LOOPBACK, "localhost:8766", False),
        (LOOPBACK, "192.168.1.5:8765", False),
        (LOOPBACK, "evil.example:8765", False),
        (LOOPBACK, "localhost.evil.example:8765", False),
        (LOOPBACK, "127.0.0.1.evil.example:8765", False),
        (LOOPBACK, "user@localhost:8765", False),
        (LOOPBACK, "localhost:8765/", False),
        (LOOPBACK, "localhost:99999999", False),
        (LOOPBACK, "", False),
        (BEYOND, "192.168.1.5:8765", True),
        (BEYOND, "[::ffff:192.168.1.5]:8765", False),
        (BEYOND, "192.168.1.6:8765", False),
        (BEYOND, "dash.example:8765", False),
        (NAMED, "dash.example", True),
        (NAMED, "dash.example:8765", True),
        (NAMED, "other.example:8443", True),
        (NAMED, "other.example", False),
        (NAMED, "localhost:8765", True),
        (OWN, "gpu-7:8765", True),
        (OWN, "gpu-7", False),
        (OWN, "gpu-8:8765", False),
    ],
)
def test_a_host_is_admitted_that_is_the_servers(server, host, admitted):
    assert server.admit(host, dialled=DIALLED) is admitted


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        ("http://localhost:8765", "localhost:8765", True),
        ("https://dash.example", "dash.example", True),
        ("https://dash.example", "dash.example:443", True),
        ("http://localhost:8766", "localhost:8765", False),
        ("http://127.0.0.1:8765", "localhost:8765", False),
        ("http://localhost.evil.example:8765", "localhost:8765", False),
        ("https://dash.example", "dash.example:80", False),
        ("null", "localhost:8765", False),
        ("file://", "localhost:8765", False),
        ("", "localhost:8765", False),
    ],
)
def test_an_origin_is_the_same_by_name_and_port(origin, host, same):
    assert same_origin(origin, host) is same


@pytest.mark.parametrize(
    ("host", "allowed", "beyond"),
    [
        ("127.0.0.1", (), False),
        ("::1", ("localhost:9000",), False),
        ("0.0.0.0", (), True),
        ("gpu-7", (), True),
        # Who gives it a name lets others in by it.
        ("127.0.0.1", ("dash.example",), True),
    ],
)
def test_others_may_reach_what_listens_beyond_loopback_or_has_a_name(host, allowed, beyond):
    assert Addresses.of(host, 8765, allowed=allowed).beyond is beyond


def test_what_is_no_name_is_not_allowed_as_one():
    with pytest.raises(ConfigError, match="http://dash"):
        Addresses.of("127.0.0.1", 8765, allowed=("http://dash",))
