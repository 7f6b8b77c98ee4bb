"""Every block in the documentation runs: what it says is what happens."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "docs/decisions").glob("*.md")]
)
#: Languages that are shown and not run. Any other language of a block must be known here.
SHOWN = {"text", "json", "toml"}
#: Its commands need a store made for them: tests/cli/test_docs.py runs every one.
ELSEWHERE = ROOT / "docs/cli.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def run(code: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        code, cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_the_page_runs(page: Path, tmp_path: Path) -> None:
    found = blocks(page)
    program = "\n".join(code for language, code in found if language == "python")
    if program:
        done = run([sys.executable, "-c", program], tmp_path)
        assert done.returncode == 0, done.stderr
    for language, text in found:
        assert language in SHOWN | {"python", "console"}, f"{page.name}: a block in {language!r}"
        if language == "console" and page != ELSEWHERE:
            run_console(text, tmp_path)


def run_console(text: str, folder: Path) -> None:
    for line in text.splitlines():
        if line.startswith("$ "):
            program, *arguments = shlex.split(line[2:], comments=True)
            assert program == "holdfast", line
            done = run([sys.executable, "-m", "holdfast", *arguments], folder)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [
        link
        for link in links
        if not link.startswith(("http://", "https://")) and not (page.parent / link).exists()
    ]
    assert missing == []
