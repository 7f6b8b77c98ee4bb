"""The command that serves a store: what it refuses before it listens."""

import socket

import pytest

TOKEN = "a-token-of-some-length"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--host", "0.0.0.0"), "there is no token"),
        (("--host", "192.168.1.5"), "there is no token"),
        (("--host", "::"), "there is no token"),
        (("--host", "gpu-7"), "there is no token"),
        (("--allow-host", "dash.example"), "there is no token"),
        (("--token-value", "short"), "can be guessed"),
        (("--token", "--token-value", TOKEN), "--token makes a token"),
        (("--host", "no-such-host.invalid", "--token"), "no place to listen at"),
        (("--host", "192.0.2.1", "--token"), "cannot listen at"),
        (("--allow-host", "http://x", "--port", "0"), "not the name of a host"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_sentence(ask, root, words, said):
    answer = ask(root, "dashboard", *words)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert TOKEN not in answer.err


def test_a_port_that_another_program_has_is_said_to_be_taken(ask, root):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        # It accepts nothing, and so says nothing.
        answer = ask(root, "dashboard", "--port", str(other.getsockname()[1]))
    assert (answer.code, answer.out) == (4, "")
    assert "taken by another program" in answer.err


def test_a_token_in_the_environment_is_looked_at_too(ask, root, monkeypatch):
    monkeypatch.setenv("HOLDFAST_DASHBOARD_TOKEN", "short")
    assert "can be guessed" in ask(root, "dashboard").err
