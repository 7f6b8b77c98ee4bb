"""What became of mutants, kept so that a second start goes on where the first ended."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

#: The tool and its own tests say nothing about a mutant.
_TOOL: Final = re.compile(r"tests/reliability/(mutation/|mutants\.py|test_mutants\.py)")


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a mutant.

    Attributes:
        mutant: Its name.
        noticed_by: The test that failed; empty where none did.
        seconds: How long that took.
        once: Tests that failed and then passed again, with the same mutant: no proof.
        replay: What the recorded replay found by itself; empty where it was not asked.
        kills: The same of the kills.
    """

    mutant: str
    noticed_by: str
    seconds: float
    once: tuple[str, ...] = ()
    replay: str = ""
    kills: str = ""


def digest_of(project: Path) -> str:
    """Returns a digest of the source and of the tests, but for this tool."""
    digest = hashlib.blake2b(digest_size=16)
    for part in ("src", "tests"):
        for path in sorted((project / part).rglob("*.py")):
            name = path.relative_to(project).as_posix()
            if not _TOOL.match(name):
                digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


class Ledger:
    """Results so far, one JSON line each, so that a second start goes on where the first ended.

    Args:
        folder: Where they are kept.
        tree: Digest of the project that they are about.
    """

    def __init__(self, folder: Path, tree: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "results.jsonl"
        self._tree = tree
        self._lock = threading.Lock()
        self._results: dict[str, Result] = {}
        self._hints: dict[str, str] = {}
        self._passes: dict[str, bool] = {}
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        for line in lines:
            try:
                self._take(json.loads(line))
            except ValueError:
                # The end of a line that a killed run did not finish.
                continue

    def _take(self, entry: dict[str, object]) -> None:
        if "baseline" in entry:
            if entry["tree"] == self._tree:
                self._passes[str(entry["baseline"])] = bool(entry["passes"])
            return
        members = {key: value for key, value in entry.items() if key != "tree"}
        result = Result(**{**members, "once": tuple(members["once"])})  # type: ignore[arg-type]
        if result.noticed_by:
            self._hints[result.mutant] = result.noticed_by
        if entry["tree"] == self._tree:
            self._results[result.mutant] = result

    def result(self, mutant: str) -> Result | None:
        """Returns what became of a mutant of this very tree; None where it was not tried."""
        return self._results.get(mutant)

    def hint(self, mutant: str) -> str:
        """Returns the test that noticed a mutant in any tree: it is tried first."""
        return self._hints.get(mutant, "")

    def add(self, result: Result) -> None:
        """Keeps a result."""
        self._results[result.mutant] = result
        self._write({"tree": self._tree, **asdict(result)})

    def passes(self, what: str) -> bool | None:
        """Returns whether tests pass without any mutant; None where that was not asked."""
        return self._passes.get(what)

    def note_passes(self, what: str, passes: bool) -> None:
        """Keeps whether tests pass without any mutant."""
        self._passes[what] = passes
        self._write({"tree": self._tree, "baseline": what, "passes": passes})

    @property
    def failing(self) -> list[str]:
        """Tests that fail without any mutant, and were left out."""
        return [what for what, passes in self._passes.items() if not passes]

    def _write(self, entry: dict[str, object]) -> None:
        with self._lock, self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")
