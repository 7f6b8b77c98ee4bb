"""docs/cli.md tells the truth: its commands exist, run, and are all there are."""

import re
import shlex
from pathlib import Path

import pytest
from safetensors.numpy import save_file

import holdfast
from holdfast.cli.app import app
from holdfast.errors import HoldfastError

TEXT = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
LINES = [
    line.removeprefix("$ holdfast ").partition("  #")[0].strip()
    for block in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
]
#: Names of the page, and what stands for them in the store of these tests.
STANDS_FOR = {"accuracy": "eval/accuracy", "step:412": "step:9"}


#: Take minutes by their nature, or do not end by themselves; they have tests of their own.
LONG = ("certify", "dashboard")


@pytest.mark.parametrize("line", [line for line in LINES if line.split()[0] not in LONG])
def test_an_example_of_the_page_runs(ask, root, tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    ask(root, "tag", "digits-cnn@best", "prod")
    ask(root, "mirror", "--to", "mirrors/nas")
    with holdfast.open(root, mode="r") as store:
        save_file(store.latest("digits-cnn").load("model"), tmp_path / "model.safetensors")
    for name, other in STANDS_FOR.items():
        line = line.replace(name, other)
    words = shlex.split(line)
    asks = words[0] in {"prune", "delete"} and "--yes" not in words
    stays = words[0] == "watch"
    answer = ask(root, *words, *(("--yes",) if asks else ("--once",) if stays else ()))
    assert answer.code == 0, answer.err


def test_the_page_shows_every_command_and_no_other():
    assert {line.split()[0] for line in LINES} == {c.name for c in app.registered_commands}


def test_the_page_lists_every_exit_code():
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)}
    kinds = [HoldfastError, *HoldfastError.__subclasses__()]
    assert {kind.exit_code for kind in kinds} <= listed
    assert listed - {kind.exit_code for kind in kinds} == {0, 130, 141, 143}
