"""plot and report: what is written where, and what is never written over."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import in_terminal

pytest.importorskip("matplotlib", reason="the extra 'plots' is not installed")
pytest.importorskip("jinja2", reason="the extra 'plots' is not installed")

PNG, SVG, HTML = b"\x89PNG\r\n", b"<?xml", b"<!doctype html>"
WRITTEN = [
    (("plot", "digits-cnn"), "digits-cnn.png", PNG),
    (("plot", "study/trial-7"), "study+trial-7.png", PNG),
    (("plot", "digits-cnn", "--format", "svg"), "digits-cnn.svg", SVG),
    (("plot", "digits-cnn", "-o", "a.SVG", "--dark", "--log", "-m", "val_loss"), "a.SVG", SVG),
    (("plot", "digits-cnn", "-m", "eval/accuracy", "--width", "400"), "digits-cnn.png", PNG),
    (("report", "study/trial-7"), "study+trial-7.html", HTML),
    (("report", "digits-cnn", "-o", "a b.html"), "a b.html", HTML),
]


@pytest.fixture
def here(tmp_path, monkeypatch):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(("words", "name", "begins"), WRITTEN, ids=str)
def test_it_writes_one_file_and_says_which(ask, original, here, words, name, begins):
    answer = ask(original, *words)
    assert (answer.code, answer.err) == (0, "")
    assert [path.name for path in here.iterdir()] == [name]
    data = (here / name).read_bytes()
    assert data.startswith(begins)
    assert answer.out.startswith(f"{name}, ")


def test_json_says_what_was_written(ask, original, here):
    answer = ask(original, "plot", "digits-cnn", "--json")
    path = here / "digits-cnn.png"
    assert answer.data == {
        "run": "digits-cnn",
        "format": "png",
        "path": str(path),
        "nbytes": path.stat().st_size,
    }
    assert ask(original, "report", "digits-cnn", "--quiet").out == "digits-cnn.html\n"


@pytest.mark.parametrize(
    "words", [("plot", "digits-cnn", "-m", "val_loss"), ("report", "digits-cnn")]
)
def test_what_is_there_stays_unless_it_is_forced(ask, original, here, words):
    assert ask(original, *words).code == 0
    file = next(here.iterdir())
    mode = stat.S_IMODE(file.stat().st_mode)
    file.write_text("mine")
    answer = ask(original, *words)
    assert (answer.code, file.read_text()) == (2, "mine")
    assert "is there already" in answer.err
    assert "--force" in answer.err
    assert ask(original, *words, "--force").code == 0
    assert file.read_bytes()[:4] != b"mine"
    assert [path.name for path in here.iterdir()] == [file.name]
    assert stat.S_IMODE(file.stat().st_mode) == mode == 0o666 & ~current_umask()


def current_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


WRONG = [
    (("plot", "digits-cnn", "-o", "a.jpg"), 2, ".png or .svg"),
    (("plot", "digits-cnn", "-o", "a.png", "--format", "svg"), 2, "no name for svg"),
    (("plot", "digits-cnn", "-m", "nope"), 3, "eval/accuracy"),
    (("plot", "digits-cn"), 3, "did you mean 'digits-cnn'?"),
    (("report", "digits-cn"), 3, "did you mean 'digits-cnn'?"),
    (("plot", "digits-cnn", "-o", "-", "--json"), 2, "--json"),
    (("report", "digits-cnn", "-o", "-", "--json"), 2, "--json"),
    (("plot", "digits-cnn", "-o", "nowhere/a.png"), 8, "No such file or directory"),
    (("plot", "digits-cnn", "--width", "10"), 2, "300 to 8000"),
]


@pytest.mark.parametrize(("words", "code", "advice"), WRONG, ids=str)
def test_what_cannot_be_written_is_named_and_leaves_nothing(
    ask, original, here, words, code, advice
):
    answer = ask(original, *words)
    assert (answer.code, answer.out) == (code, "")
    assert advice in answer.err
    assert list(here.iterdir()) == []


def test_a_dash_is_standard_output(ask, original, here):
    page = ask(original, "report", "digits-cnn", "-o", "-").out
    assert page.startswith("<!doctype html>")
    assert page.rstrip().endswith("</html>")
    command = (sys.executable, "-m", "holdfast", "-s", str(original), "plot", "digits-cnn")
    done = subprocess.run([*command, "-o", "-"], check=True, capture_output=True)
    assert done.stdout.startswith(PNG)
    # The last chunk of a PNG (ISO/IEC 15948, 11.2.5): all of it is there.
    assert done.stdout.endswith(b"IEND\xaeB`\x82")
    assert list(here.iterdir()) == []


def test_a_terminal_is_spared_a_png(original, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, lines = in_terminal("-s", original, "plot", "digits-cnn", "-o", "-", columns=80)
    assert code == 2
    assert any("a terminal cannot show a PNG" in line for line in lines)
    assert list(Path().iterdir()) == []
