"""What a store says never drives the terminal, the log or the markup of who looks at it."""

import json
import logging
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.markup import render

import holdfast
from holdfast import keep, when
from holdfast.cli.formatting import json_text, printable
from tests.cli.conftest import in_process, in_terminal
from tests.security.hostile import append, edit, folders_of, forget_catalog

TITLE = "\x1b]0;owned\x07"
#: Clears the screen; the same in one character; turns the writing around; looks like an own line;
#: markup that colours, that links, and that ends what never began.
EVIL = (
    f"{TITLE}\x1b[2J\x9b2J\u202edlrow\u200b\r\nError: all is lost\n[red]red[/red]"
    "[link=file:///etc/passwd]here[/link][/]"
)
COMMANDS = [
    ("runs",),
    ("ls",),
    ("ls", "mine"),
    ("best", "mine", EVIL, "--mode", "min"),
    ("latest", "mine"),
    ("show", "mine@step:0"),
    ("show", "mine@step:1"),
    ("diff", "mine@step:0", "mine@step:1", "--norms"),
    ("history", "mine", EVIL),
    ("history", "mine", EVIL, "--plot"),
    ("explain", "mine@step:0"),
    ("explain", "mine@step:1"),
    ("plan", "mine"),
    ("plan", "mine", "--keep", "best(1, 'loss')"),
    ("usage",),
    ("verify",),
    ("doctor",),
    ("show", f"mine@tag:{EVIL}"),
    ("show", f"mine@best:{EVIL}x"),
    ("ls", EVIL),
    ("reindex",),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A store in which all that may be free text is hostile."""
    root = tmp_path_factory.mktemp("terminal") / "store"
    state = {EVIL: np.zeros(2, "f4"), "b": np.zeros(2, "f4")}
    with holdfast.open(root) as store:
        run = store.run(
            "mine",
            metric="loss",
            save=when.never(),
            keep=keep.all(),
            config={EVIL: EVIL, "nested": {EVIL: [EVIL]}},
        )
        run.attach(model=state)
        for step in (0, 1):
            run.save(
                step,
                {"loss": 1.0 - step, EVIL: float(step)},
                reason=EVIL,
                metadata={EVIL: EVIL, "step": f"{step}{EVIL}"},
                awaiting=(f"{EVIL}late",),
            ).wait()
            state[EVIL] += 1
        run.close()
    append(
        root,
        {"t": "failed", "at": 1.0, "id": "mine_20250101_000000", "step": 0, "error": EVIL},
        {"t": "run", "at": 2.0, "name": "mine", "created_at": 1.0, "metric": EVIL, "mode": "min",
         "config": {"a": EVIL}, "policies": {"save": EVIL, "keep": EVIL}, "parent": EVIL,
         "environment": {EVIL: EVIL, "python": EVIL}},
        {"t": EVIL, "at": EVIL},
        {"t": "status", "status": EVIL},
        {"t": "kept", "at": 3.0, "reasons": {folders_of(root, "mine")[0].name: [EVIL]}},
    )  # fmt: skip
    damaged = root / "runs/mine/mine_20250101_000000"
    damaged.mkdir()
    (damaged / "manifest.json").write_bytes((folders_of(root)[-1] / "manifest.json").read_bytes())
    edit(damaged / "manifest.json", lambda members: {**members, "kind": EVIL, "id": EVIL})
    forget_catalog(root)
    return root


def harmless(text):
    """Whether a text has no character that a terminal acts on but ends of lines."""
    return all(char.isprintable() or char == "\n" for char in text)


@pytest.mark.parametrize(
    "words", COMMANDS, ids=lambda words: " ".join(words)[:24].replace(EVIL, "")
)
@pytest.mark.slow
def test_no_command_lets_a_store_drive_the_terminal(root, ask, words):
    check_inert(root, ask, words, [(), ("--json",), ("--quiet",), ("--verbose",)])


@pytest.mark.parametrize("words", [("show", "mine@step:0"), ("ls", "mine"), ("plan", "mine")])
def test_no_look_at_a_store_lets_it_drive_the_terminal(root, ask, words):
    check_inert(root, ask, words, [("--verbose",), ("--json",)])


def check_inert(root, ask, words, options):
    for more in options:
        answer = ask(root, *words, *more)
        for text in (answer.out, answer.err):
            assert harmless(text), ascii(text)
            assert not re.search("^Error: all is lost", text, re.MULTILINE)
        if more == ("--json",) and answer.out:
            assert json.loads(answer.out) is not None


def test_markup_is_shown_as_it_is(root, ask):
    shown = ask(root, "show", "mine@step:0").out
    assert shown.count("[red]red[/red]") > 4
    assert render("[red]red[/red]").plain == "red"


def test_texts_come_back_from_json_as_they_were(root, ask):
    assert ask(root, "show", "mine@step:0", "--json").data["config"][EVIL] == EVIL


@pytest.mark.slow
@pytest.mark.parametrize("words", [("ls",), ("show", "mine@step:0")])
def test_a_real_terminal_is_not_driven_either(root, words):
    code, lines = in_terminal("-s", root, *words, columns=200)
    assert code == 0
    assert all(harmless(line) for line in lines)
    assert not any(line.startswith("Error: all is lost") for line in lines)


@pytest.mark.slow
def test_the_shell_is_offered_nothing_that_it_would_act_on(root):
    line = "holdfast history mine "
    answer = in_process(
        cwd=root,
        _HOLDFAST_COMPLETE="complete_bash",
        COMP_WORDS=line,
        COMP_CWORD="3",
        HOLDFAST_STORE=str(root),
    )
    assert harmless(answer.out + answer.err)
    assert "loss" in answer.out


def test_the_log_of_a_store_has_no_lines_of_its_own(root, caplog):
    caplog.set_level(logging.DEBUG, "holdfast")
    forget_catalog(root)
    with holdfast.open(root) as store:
        run = store.run("mine", metric="loss", save=when.never(), keep=keep.all(), config={"a": 1})
        run.attach(model={EVIL: np.zeros(2, "f4"), "b": np.zeros(2, "f4")})
        assert run.resume() == 2
        run.close()
    assert any("config" in record.getMessage() for record in caplog.records)
    for record in caplog.records:
        assert harmless(record.getMessage()), ascii(record.getMessage())
        assert not record.getMessage().startswith("Error")


@settings(max_examples=100)
@given(st.text())
def test_what_is_printable_is_inert_and_json_stays_json(text):
    assert printable(text).isprintable()
    shown = json_text({"a": text})
    assert shown.isprintable()
    assert json.loads(shown) == {"a": text}
