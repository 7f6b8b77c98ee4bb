"""Running the tests against a mutant: from those near the place to the long sweeps."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.reliability.mutation.covering import Covering, in_lots
from tests.reliability.mutation.ledger import Ledger, Result
from tests.reliability.mutation.places import Mutant

#: What a copy of the project is made of; what is not there is left out.
_PARTS: Final = ("src", "tests", "docs", "examples", "pyproject.toml", "README.md", "CHANGELOG.md")
_ELSEWHERE: Final = "not (servers or sweeps or frameworks or slow)"
_NEAR: Final = {
    "storage": "tests/storage",
    "engine": "tests/engine",
    "lifecycle": "tests/lifecycle",
    "tree": "tests/state",
}
#: Folders of tests, the quick and telling ones first.
_FOLDERS: Final = (
    "tests/storage", "tests/engine", "tests/reliability", "tests/lifecycle", "tests/runs",
    "tests/security", "tests/catalog", "tests/processes", "tests/cli", "tests/golden",
    "tests/wrong_input", "tests/state",
)  # fmt: skip
_OF_THE_MACHINE: Final = (
    "tests/reliability/test_power_cuts.py::test_nothing_is_left_when_a_sweep_is_left_in_the_middle"
)
#: Tests in which the tool would run itself, and one that looks at the mounts of the whole machine:
#: another copy's would make it fail.
_LEFT_OUT: Final = (
    "--ignore=tests/reliability/test_mutants.py",
    f"--deselect={_OF_THE_MACHINE}",
)
#: Kinds that a power cut or a kill should notice without help of the tests near the place.
OF_THE_DISK: Final = ("sync", "durable", "rename", "temporary", "order")
_TIMEOUT_S: Final = 90
_COMMAND_S: Final = 1800
_FAILED: Final = re.compile(r"^(?:FAILED|ERROR) (tests/\S+?::.+?)(?: - .*)?$", re.MULTILINE)


class BaselineError(Exception):
    """Tests end without naming one that failed, and not for a mutant: nothing can be concluded."""


class EndedError(Exception):
    """The tool was told to end while something was running."""


class Tree:
    """A copy of the project, in which one file at a time is mutated.

    Args:
        project: The project's folder.
        folder: Where the copy goes; made anew.
    """

    def __init__(self, project: Path, folder: Path) -> None:
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in _PARTS:
            part = project / name
            if part.is_dir():
                shutil.copytree(part, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif part.exists():
                shutil.copy2(part, folder / name)
        self._stamp = time.time()
        self._originals: dict[str, bytes] = {}
        self._running: subprocess.Popen[bytes] | None = None
        self._ended = False
        self._runs = 0

    def original(self, relative: str) -> bytes:
        """Returns a file of the package as it was copied, whatever becomes of the project."""
        if relative not in self._originals:
            self._originals[relative] = (self.folder / "src" / "holdfast" / relative).read_bytes()
        return self._originals[relative]

    def put(self, relative: str, data: bytes) -> None:
        """Writes a file of the package, so that no compiled form of it is taken for current."""
        path = self.folder / "src" / "holdfast" / relative
        path.write_bytes(data)
        self._stamp += 2
        os.utime(path, (self._stamp, self._stamp))

    def run(self, command: list[str], *, limit_s: float) -> tuple[int | None, str]:
        """Returns the exit status of a command and what it said; None where it took too long.

        Raises:
            EndedError: `end` was called.
        """
        # Another one each time: what a test left running may still write in the last one.
        shutil.rmtree(self.folder / f"scratch-{self._runs}", ignore_errors=True)
        self._runs += 1
        scratch = self.folder / f"scratch-{self._runs}"
        scratch.mkdir()
        said = self.folder / "said"
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.folder / "src"),
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(scratch),
        }
        with said.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._running = process
            try:
                status: int | None = process.wait(limit_s)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                # What a test started may still be there; the group is ours alone.
                _end_group(process)
        if self._ended:
            raise EndedError
        return status, said.read_text(errors="replace")

    def end(self) -> None:
        """Ends what is running, with all that it started; nothing more is run."""
        self._ended = True
        if self._running is not None and self._running.poll() is None:
            _end_group(self._running)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


# -- which tests ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stage:
    """Tests that are run together.

    Attributes:
        paths: Files and folders.
        marked: Which of the tests in there, as `pytest -m` takes it.
    """

    paths: tuple[str, ...]
    marked: str = _ELSEWHERE

    def command(self) -> list[str]:
        """Returns what runs it, up to the first failure."""
        return [*_PYTEST, "-x", "-m", self.marked, *_LEFT_OUT, *self.paths]

    def __str__(self) -> str:
        return f"{' '.join(self.paths)} ({self.marked})"


_PYTEST: Final = [
    "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider", "--hypothesis-profile=ci",
    f"--timeout={_TIMEOUT_S}",
]  # fmt: skip


def near(path: str) -> str:
    """Returns the folder of the tests that are about a file of the package."""
    return _NEAR.get(path.partition("/")[0], "tests/runs")


def stages(project: Path, path: str, *, sweeps: bool) -> Iterator[Stage]:
    """Yields the tests for a file of the package, the nearest first.

    Args:
        project: The project's folder.
        path: The file, relative to ``src/holdfast``.
        sweeps: Whether the long sweeps come at the end.
    """
    closest = near(path)
    file = f"{closest}/test_{path.rpartition('/')[2]}"
    if (project / file).exists():
        yield Stage((file,))
    yield Stage((closest,))
    for folder in _FOLDERS:
        if folder != closest and (project / folder).is_dir():
            yield Stage((folder,))
    if sweeps:
        yield Stage(("tests/reliability",), "sweeps")


# -- trying --------------------------------------------------------------------------------------


@dataclass(slots=True)
class Trial:
    """Mutants and the tests that must notice them, in one copy of the project.

    Attributes:
        project: The project's folder.
        tree: The copy.
        ledger: Where results are kept.
        sweeps: Whether the long sweeps are run, too.
        alone: Whether replay and kills are asked by themselves about what concerns the disk.
        covering: What each test runs; only those that run a mutant's lines are asked then.
    """

    project: Path
    tree: Tree
    ledger: Ledger
    sweeps: bool = True
    alone: bool = True
    covering: Covering | None = None
    _mutant: Mutant = field(init=False)
    _once: list[str] = field(default_factory=list)

    def _passes(self, command: list[str], what: str) -> bool:
        """Returns whether tests pass without any mutant; asked once."""
        known = self.ledger.passes(what)
        if known is None:
            self._put_original()
            try:
                # Nothing collected is fine: a folder may hold long tests alone.
                known = self.tree.run(command, limit_s=_COMMAND_S)[0] in (0, 5)
            finally:
                self._put_mutant()
            self.ledger.note_passes(what, known)
        return known

    def _put_original(self) -> None:
        self.tree.put(self._mutant.path, self.tree.original(self._mutant.path))

    def _put_mutant(self) -> None:
        original = self.tree.original(self._mutant.path)
        self.tree.put(self._mutant.path, self._mutant.applied(original))

    def attempt(self, mutant: Mutant) -> Result:
        """Returns what became of a mutant, and keeps it."""
        began = time.monotonic()
        self._mutant, self._once = mutant, []
        self._put_mutant()
        try:
            by = self._noticed()
            seconds = round(time.monotonic() - began, 1)
            replay = kills = ""
            if self.alone and mutant.kind in OF_THE_DISK:
                replay = self._sweep("replays")
                # A kill loses nothing that the system holds: of syncs it can tell nothing.
                kills = "" if mutant.kind in ("sync", "durable") else self._sweep("kills")
        finally:
            self._put_original()
        result = Result(mutant.name, by, seconds, tuple(self._once), replay, kills)
        self.ledger.add(result)
        return result

    def _noticed(self) -> str:
        hint = self.ledger.hint(self._mutant.name)
        if "::" in hint and self._fails(hint) and self._passes([*_PYTEST, hint], hint):
            return hint
        for stage in self._stages():
            by = self._stage(stage)
            if by:
                return by
        return ""

    def _stages(self) -> Iterator[Stage]:
        mutant = self._mutant
        if self.covering is None:
            yield from stages(self.project, mutant.path, sweeps=self.sweeps)
            return
        text = self.tree.original(mutant.path)
        first = text.count(b"\n", 0, mutant.start) + 1
        last = first + text.count(b"\n", mutant.start, mutant.end)
        tests = self.covering.tests(mutant.path, range(first, last + 1))
        yield from (Stage(lot) for lot in in_lots(tests, near(mutant.path)))
        if self.sweeps:
            yield Stage(("tests/reliability",), "sweeps")

    def _stage(self, stage: Stage) -> str:
        command = stage.command()
        for test in self.ledger.failing:
            command += ["--deselect", test]
        while True:
            status, said = self.tree.run(command, limit_s=_COMMAND_S)
            if status in (0, 5):
                return ""
            failed = _FAILED.search(said)
            if failed is None:
                if self._passes(stage.command(), str(stage)):
                    return _without_a_test(status, stage, said)
                raise BaselineError(f"{stage} does not pass without a mutant:\n{said[-3000:]}")
            test = failed[1].strip()
            if test in self._once:
                return ""
            # A second look decides, with the mutant and without it; else the others go on.
            if not self._fails(test):
                self._once.append(test)
            elif self._passes([*_PYTEST, test], test):
                return test
            command = [*command, "--deselect", test]

    def _fails(self, test: str) -> bool:
        status, _ = self.tree.run([*_PYTEST, test], limit_s=_COMMAND_S)
        return status is None or status == 1

    def _sweep(self, sweep: str) -> str:
        """Returns how many states it took a sweep alone to notice, and of how many."""
        scratch = self.tree.folder / "sweep"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        command = ["-m", "tests.reliability.mutation.alone", sweep, str(scratch)]
        status, said = self.tree.run(command, limit_s=_COMMAND_S)
        if status != 0:
            return "the work itself fails"
        return said.strip().splitlines()[-1]


def _without_a_test(status: int | None, stage: Stage, said: str) -> str:
    """Returns what noticed a mutant where no test was named: a hang, or an end of the process."""
    if status is None or "Timeout" in said:
        return f"{stage.paths[0]}: hangs"
    if status is not None and status < 0:
        return f"{stage.paths[0]}: the process ended with signal {-status}"
    raise BaselineError(f"{stage} ended with status {status} and named no test:\n{said[-3000:]}")
