"""The layers hold, and a step over them is noticed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TRESPASSES = [
    ("errors.py", "from holdfast import model", "rows import downwards only"),
    ("storage/trespass.py", "import holdfast.engine", "rows import downwards only"),
    ("engine/trespass.py", "import holdfast.catalog", "rows import downwards only"),
    ("newcomer.py", "", "rows import downwards only"),
    ("engine/trespass.py", "import torch", "training frameworks are known to their adapters only"),
    ("model.py", "def f():\n    import torch.nn", "training frameworks are known"),
    ("lifecycle/trespass.py", "import sqlalchemy", "SQL is known to the catalog only"),
    ("engine/trespass.py", "import obstore", "object stores are known to storage only"),
    ("lifecycle/trespass.py", "import rich", "the terminal is known to the command line only"),
    ("cli/trespass.py", "from holdfast.engine import commit", "faces use public names only"),
    ("dashboard/trespass.py", "import holdfast.cli", "rows import downwards only"),
    ("dashboard/trespass.py", "import holdfast.engine", "faces use public names only"),
    ("adapters/trespass.py", "import holdfast.storage", "adapters and trackers never reach"),
    ("storage/trespass.py", "import holdfast.model", "storage speaks bytes"),
    ("catalog/trespass.py", "import holdfast.tree", "the catalog speaks SQL"),
]


def lint(folder: Path) -> tuple[int, str]:
    """Runs import-linter on the sources below a folder; returns its exit status and its words."""
    answer = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder / "src"), "COLUMNS": "200", "NO_COLOR": "1"},
    )
    return answer.returncode, answer.stdout + answer.stderr


@pytest.fixture
def copy(tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(
        ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
    )
    return tmp_path


def test_every_module_imports_downwards_only():
    status, words = lint(ROOT)
    assert status == 0, words


@pytest.mark.parametrize(("module", "line", "contract"), TRESPASSES)
def test_a_step_over_the_layers_breaks_its_contract(copy, module, line, contract):
    path = copy / "src" / "holdfast" / module
    before = path.read_text() if path.exists() else ""
    path.write_text(f"{before}\n{line}\n")
    status, words = lint(copy)
    broken = [row for row in words.splitlines() if " BROKEN" in row]
    assert status == 1, words
    assert any(row.startswith(contract) for row in broken), words
