"""Tokens, log-ins and wrong attempts, by a clock that a test turns."""

import pytest

from holdfast import ConfigError
from holdfast.dashboard.sessions import Attempts, Sessions, Token
from tests.dashboard.asking import Clock


@pytest.mark.parametrize(
    "text", ["", "short", "x" * 15, "with a space in it", "Umlaut-äöü-1234567"]
)
def test_a_token_that_is_short_or_cannot_be_sent_is_refused_and_not_repeated(text):
    with pytest.raises(ConfigError) as caught:
        Token(text)
    assert not text or text not in str(caught.value)


def test_a_token_is_matched_by_itself_alone_and_does_not_show():
    token = Token("0123456789abcdef")
    assert token.matches("0123456789abcdef")
    for other in ("", "0123456789abcde", "0123456789abcdef0", "0123456789abcdeF", "\udcff"):
        assert not token.matches(other)
    assert "0123" not in repr(token) + str(vars(token))


def test_tokens_that_are_made_are_long_and_differ():
    made = {Token.make() for _ in range(50)}
    assert len(made) == 50
    assert min(map(len, made)) >= 43


def test_a_session_holds_until_it_is_ended_or_its_time_is_over():
    clock = Clock()
    sessions = Sessions(clock)
    first, second = sessions.begin(), sessions.begin()
    assert sessions.holds(first)
    assert not sessions.holds(first + "x")
    sessions.end(first)
    assert not sessions.holds(first)
    clock.now += sessions.lasts_s - 1
    assert sessions.holds(second)
    clock.now += 1
    assert not sessions.holds(second)


def test_sessions_are_bounded_and_the_oldest_goes():
    clock = Clock()
    sessions = Sessions(clock)
    names = []
    for _ in range(1001):
        clock.now += 1
        names.append(sessions.begin())
    assert not sessions.holds(names[0])
    assert all(map(sessions.holds, names[1:]))


def test_a_client_waits_after_five_wrong_attempts_and_has_one_more_every_twelve_seconds():
    clock = Clock()
    attempts = Attempts(clock)
    for _ in range(5):
        assert attempts.wait_s("10.0.0.1") == 0
        attempts.failed("10.0.0.1")
    assert attempts.wait_s("10.0.0.1") == 12
    assert attempts.wait_s("10.0.0.2") == 0
    clock.now += 11.5
    assert attempts.wait_s("10.0.0.1") == 1
    clock.now += 0.5
    assert attempts.wait_s("10.0.0.1") == 0
    attempts.failed("10.0.0.1")
    assert attempts.wait_s("10.0.0.1") == 12


def test_all_clients_together_wait_after_thirty():
    clock = Clock()
    attempts = Attempts(clock)
    for number in range(30):
        assert attempts.wait_s(f"10.0.0.{number}") == 0
        attempts.failed(f"10.0.0.{number}")
    assert attempts.wait_s("10.1.1.1") == 2
    clock.now += 2
    assert attempts.wait_s("10.1.1.1") == 0


def test_addresses_of_one_network_of_ipv6_are_one_client():
    attempts = Attempts(Clock())
    for number in range(5):
        attempts.failed(f"2001:db8::{number:x}")
    assert attempts.wait_s("2001:db8::ffff") > 0
    assert attempts.wait_s("2001:db8:0:1::1") == 0


def test_what_is_remembered_of_clients_is_bounded():
    clock = Clock()
    attempts = Attempts(clock)
    for number in range(3000):
        clock.now += 10
        attempts.failed(f"10.{number // 250}.{number % 250}.1")
    assert len(attempts._clients) == 1000
