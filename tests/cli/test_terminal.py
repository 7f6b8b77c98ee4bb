"""What people see in a terminal of 80 columns, and what the shell completes."""

from types import SimpleNamespace

import pytest

import holdfast
from holdfast.cli import completing
from tests.cli.conftest import in_process, in_terminal

SCREENS = [
    ("runs",),
    ("ls",),
    ("plan", "--keep", "best(1, 'val_loss')"),
    ("explain", "digits-cnn@step:1"),
    ("diff", "digits-cnn@best", "digits-cnn@latest", "--norms"),
    ("history", "digits-cnn", "val_loss"),
    ("history", "digits-cnn", "val_loss", "--plot"),
    ("usage", "--budget", "1MB"),
    ("watch", "--once"),
    ("watch", "digits-cnn", "--once"),
    ("--help",),
    ("prune", "--help"),
]


@pytest.mark.parametrize("words", SCREENS, ids=" ".join)
def test_no_line_is_wider_than_the_terminal(original, words):
    code, lines = in_terminal("-s", original, *words, columns=80)
    assert code == 0
    assert len(lines) > 3
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("columns", [30, 60, 80, 120])
def test_ids_are_shown_in_full_whatever_the_width(original, columns):
    with holdfast.open(original, mode="r") as store:
        ids = [checkpoint.id for checkpoint in store.checkpoints("digits-cnn")]
    _, lines = in_terminal("-s", original, "ls", "digits-cnn", columns=columns)
    if columns >= 60:
        assert [line.split()[0] for line in lines[1 : len(ids) + 1]] == ids
    else:
        # Broken over lines, but whole.
        assert all(checkpoint_id[:20] in "".join(lines) for checkpoint_id in ids)


def test_columns_that_give_way_are_named(original):
    _, narrow = in_terminal("-s", original, "ls", columns=70)
    _, wide = in_terminal("-s", original, "ls", columns=140)
    assert "eval/accuracy" in wide[0]
    assert "eval/accuracy" not in narrow[0]
    assert any(line.startswith("No room for eval/accuracy") for line in narrow)


def test_the_lines_to_copy_are_never_broken(original):
    _, lines = in_terminal("-s", original, "show", "digits-cnn@best", columns=60)
    opening = "".join(lines[lines.index("Load it") + 2 :])
    assert opening.startswith("checkpoint = holdfast.open(")


@pytest.mark.parametrize(("typed", "left"), [(b"n\n", True), (b"\n", True), (b"y\n", False)])
def test_a_clean_up_asks_before_it_goes_ahead(root, typed, left):
    words = ("-s", root, "delete", "digits-cnn@latest")
    with holdfast.open(root, mode="r") as store:
        doomed = store.latest("digits-cnn").id
    code, lines = in_terminal(*words, columns=100, typed=typed)
    assert code == 0
    assert any("Go ahead? [y/N]" in line for line in lines)
    with holdfast.open(root, mode="r") as store:
        assert (doomed in [c.id for c in store.checkpoints("digits-cnn")]) is left


def complete(root, line):
    """Returns what bash would offer for a line."""
    words = line.split(" ")
    answer = in_process(
        cwd=root,
        _HOLDFAST_COMPLETE="complete_bash",
        COMP_WORDS=line,
        COMP_CWORD=str(len(words) - 1),
        HOLDFAST_STORE=str(root),
    )
    assert answer.err == ""
    return answer.out.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("holdfast ls dig", ["digits-cnn"]),
        ("holdfast history digits-cnn val", ["val_loss"]),
        ("holdfast best study/trial-7 eval", ["eval/accuracy"]),
        ("holdfast show digits-cnn@l", ["digits-cnn@latest"]),
        ("holdfast show digits-cnn@best:v", ["digits-cnn@best:val_loss"]),
        ("holdfast show digits-cnn@step:11", ["digits-cnn@step:11"]),
        ("holdfast verify stu", ["study/trial-7", "study/trial-7@latest"]),
        ("holdfast hist", ["history"]),
        ("holdfast ls nothing", []),
    ],
)
def test_the_shell_completes_from_the_store(original, line, offered):
    found = complete(original, line)
    assert found[: len(offered)] == offered
    assert bool(found) == bool(offered)


def test_only_what_continues_the_word_is_offered(original):
    context = SimpleNamespace(params={"store": str(original)}, parent=None)
    assert completing.runs(context, "stu") == ["study/trial-7"]
    assert completing.metrics(context, "") == ["eval/accuracy", "val_loss"]


def test_completion_is_silent_where_there_is_no_store(tmp_path):
    assert complete(tmp_path / "..", "holdfast ls x") == []


def test_the_version_is_the_packages(ask):
    assert ask(None, "--version").out == f"holdfast {holdfast.__version__}\n"


def test_every_command_has_a_summary_and_examples_in_its_help(ask):
    from holdfast.cli.app import app

    names = [command.name for command in app.registered_commands]
    assert len(names) == 27
    for name in names:
        answer = ask(None, name, "--help")
        assert answer.code == 0
        assert f"$ holdfast {name}" in answer.out


@pytest.mark.parametrize(
    ("words", "absent"),
    [
        ("--help", {"numpy", "sqlalchemy", "torch"}),
        ("runs", {"torch", "matplotlib", "jinja2"}),
    ],
)
def test_what_a_command_does_not_need_is_not_imported(original, words, absent):
    import subprocess
    import sys

    code = (
        "import sys\n"
        f"sys.argv = ['holdfast', '-s', {str(original)!r}, {words!r}]\n"
        "from holdfast.cli import main\n"
        "try:\n    main()\nexcept SystemExit as done:\n    assert not done.code\n"
        "print('LOADED', *sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    loaded = set(answer.stdout.partition("LOADED ")[2].split())
    assert "typer" in loaded
    assert loaded & absent == set()
