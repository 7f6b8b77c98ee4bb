"""Which tests run a line of the source: the others cannot notice a mutant of it.

Read from what coverage.py recorded with a context per test function. What only a process of its
own runs (a script, a forked child) is not in there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Final

from coverage.numbits import numbits_to_nums

#: So many tests are run together: a failure ends the lot.
_TOGETHER: Final = 40
#: Folders whose tests are about what a mutant takes out.
_TELLING: Final = (
    "tests/storage", "tests/engine", "tests/security", "tests/reliability", "tests/lifecycle",
    "tests/state", "tests/golden", "tests/wrong_input", "tests/runs", "tests/processes",
)  # fmt: skip
#: Who inherits the tests that the package itself brings along.
_HEIRS: Final = "tests/storage/test_conformance.py"


class Covering:
    """What each test of a suite ran.

    Args:
        data: The file that coverage.py wrote.
        project: The project's folder; tests are told by files in it.
    """

    def __init__(self, data: Path, project: Path) -> None:
        self._project = project
        self._by_line: dict[tuple[str, int], set[str]] = {}
        with closing(sqlite3.connect(data)) as connection:
            rows = connection.execute(
                "SELECT file.path, context.context, line_bits.numbits FROM line_bits "
                "JOIN file ON file.id = line_bits.file_id "
                "JOIN context ON context.id = line_bits.context_id WHERE context.context != ''"
            ).fetchall()
        for path, context, bits in rows:
            relative = path.partition("/src/holdfast/")[2]
            for line in numbits_to_nums(bits):
                self._by_line.setdefault((relative, line), set()).add(context)

    def tests(self, relative: str, lines: Iterable[int]) -> list[str]:
        """Returns ids of the tests that ran any of these lines of a file of the package."""
        contexts: set[str] = set()
        for line in lines:
            contexts |= self._by_line.get((relative, line), set())
        return sorted({test for context in contexts if (test := self._id(context))})

    def _id(self, context: str) -> str:
        """Returns the id of a test: ``tests.a.test_b.TestC.test_d`` is in ``tests/a/test_b.py``."""
        if context.startswith("holdfast.testing."):
            return _HEIRS
        parts = context.split(".")
        for end in range(len(parts) - 1, 0, -1):
            file = Path(*parts[:end]).with_suffix(".py")
            if (self._project / file).exists():
                return "::".join([file.as_posix(), *parts[end:]])
        return ""


def in_lots(tests: Iterable[str], near: str) -> list[tuple[str, ...]]:
    """Returns tests in lots to be run together: those near the place first, telling ones next."""

    def rank(test: str) -> tuple[int, str]:
        folders = (near, *_TELLING)
        return next((n for n, one in enumerate(folders) if test.startswith(one)), 99), test

    ordered = sorted(tests, key=rank)
    return [tuple(ordered[i : i + _TOGETHER]) for i in range(0, len(ordered), _TOGETHER)]
