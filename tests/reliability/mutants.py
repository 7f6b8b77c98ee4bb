"""Takes each protection out in turn, and asks whether a test notices: ``make mutants``.

Every sync, rename, digest and check of a length in the source gives a mutant. Each is tried in a
copy of the project; the tests must fail, and fail again. What nothing notices is a hole.
"""

from __future__ import annotations

import argparse
import queue
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Final, TypeVar

from tests.reliability.mutation.chosen import EQUIVALENT, chosen
from tests.reliability.mutation.covering import Covering
from tests.reliability.mutation.ledger import Ledger, Result, digest_of
from tests.reliability.mutation.noticing import BaselineError, Tree, Trial
from tests.reliability.mutation.places import Mutant, find
from tests.reliability.mutation.reporting import section, write

T = TypeVar("T")

PROJECT: Final = Path(__file__).parents[2]
#: Folders of the package, by how long the tests near them take.
_QUICK_FIRST: Final = ("storage", "engine", "tree", "", "lifecycle")


def package_of(mutant: Mutant) -> str:
    """Returns the folder of the package that a mutant is in; empty for any other."""
    first = mutant.path.partition("/")[0]
    return first if first in _QUICK_FIRST else ""


def every_mutant(project: Path = PROJECT) -> list[Mutant]:
    """Returns all mutants, file by file and from top to bottom."""
    package = project / "src" / "holdfast"
    both = [*find(package), *chosen(package)]
    return sorted(both, key=lambda mutant: (mutant.path, mutant.start))


def selected(mutants: Sequence[Mutant], patterns: Iterable[str]) -> list[Mutant]:
    """Returns the mutants whose name holds one of some texts, or fits a pattern with ``*``."""
    wanted = tuple(patterns)
    return [m for m in mutants if any(one in m.name or fnmatch(m.name, one) for one in wanted)]


def main(arguments: Sequence[str]) -> int:
    """Tries mutants; returns how many nothing noticed, and how many tests fail anyhow."""
    options = _parsed(arguments)
    every = every_mutant()
    wanted = selected(every, options.only or [""])
    if options.list:
        for mutant in wanted:
            _say(f"{mutant.name}\n    -> {mutant.now}")
        for name, why in EQUIVALENT.items():
            _say(f"no difference: {name}: {why}")
        _say(f"{len(wanted)} mutants")
        return 0
    ledger = Ledger(options.results, digest_of(PROJECT))
    todo = [m for m in wanted if m.name not in EQUIVALENT and ledger.result(m.name) is None]
    if options.survivors:
        todo = [m for m in wanted if (r := ledger.result(m.name)) and not r.noticed_by]
    # What the quickest tests notice comes first.
    todo.sort(key=lambda mutant: _QUICK_FIRST.index(package_of(mutant)))
    # What a hung test started may still write there for a moment.
    with tempfile.TemporaryDirectory(
        prefix="holdfast-mutants-", ignore_cleanup_errors=True
    ) as folder:
        _try(todo, ledger, Path(folder), options)
    results = {m.name: r for m in every if (r := ledger.result(m.name)) is not None}
    if options.write is not None:
        write(options.write, section(every, results, EQUIVALENT))
    for name, why in EQUIVALENT.items():
        _say(f"no difference: {name}: {why}")
    survivors = [m.name for m in wanted if m.name in results and not results[m.name].noticed_by]
    for name in survivors:
        _say(f"NOT NOTICED: {name}")
    for test in ledger.failing:
        _say(f"FAILS WITHOUT A MUTANT: {test}")
    tried = [m for m in wanted if m.name in results]
    _say(f"{len(tried) - len(survivors)} of {len(tried)} noticed")
    return len(survivors) + len(ledger.failing)


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.mutants")
    parser.add_argument(
        "--only",
        action="append",
        metavar="PATTERN",
        help="mutants whose name holds this; * is a wildcard; may be given several times",
    )
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time")
    parser.add_argument("--list", action="store_true", help="say what there is, and try nothing")
    parser.add_argument("--write", type=Path, help="put the table into this page")
    parser.add_argument(
        "--results", type=Path, default=PROJECT / "build/mutants", help="where results are kept"
    )
    parser.add_argument("--survivors", action="store_true", help="try again what was not noticed")
    parser.add_argument("--no-sweeps", action="store_true", help="leave the long sweeps out")
    parser.add_argument(
        "--no-alone", action="store_true", help="do not ask power cuts and kills by themselves"
    )
    parser.add_argument(
        "--covering",
        type=Path,
        metavar="FILE",
        help="what coverage.py recorded with a context per test: only tests that run a line are "
        "asked about it",
    )
    return parser.parse_args(arguments)


def _try(
    mutants: Sequence[Mutant], ledger: Ledger, folder: Path, options: argparse.Namespace
) -> None:
    sweeps, alone = not options.no_sweeps, not options.no_alone
    covering = Covering(options.covering, PROJECT) if options.covering else None
    trials = [
        Trial(PROJECT, Tree(PROJECT, folder / str(number)), ledger, sweeps, alone, covering)
        for number in range(max(1, min(options.jobs, len(mutants))) if mutants else 0)
    ]

    def attempt(trial: Trial, mutant: Mutant) -> str:
        return _told(trial.attempt(mutant))

    _each(mutants, trials, attempt)


def _each(work: Sequence[T], trials: Sequence[Trial], do: Callable[[Trial, T], str]) -> None:
    """Does pieces of work, each copy of the project one at a time."""
    waiting: queue.SimpleQueue[T] = queue.SimpleQueue()
    for piece in work:
        waiting.put(piece)
    failures: list[BaseException] = []
    done = 0
    lock = threading.Lock()

    def drain(trial: Trial) -> None:
        nonlocal done
        while not failures:
            try:
                piece = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                told = do(trial, piece)
            except BaseException as error:  # noqa: BLE001 - raised by the caller
                failures.append(error)
                return
            with lock:
                done += 1
                _say(f"[{done}/{len(work)}] {told}")

    threads = [threading.Thread(target=drain, args=(trial,)) for trial in trials]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException as error:
        # Told to end: what the threads wait for ends first.
        failures.append(error)
        for trial in trials:
            trial.tree.end()
        for thread in threads:
            thread.join()
        raise
    if failures:
        raise failures[0]


def _told(result: Result) -> str:
    by = result.noticed_by or "NOTHING"
    alone = f"; power cuts {result.replay}, kills {result.kills}" if result.replay else ""
    once = f"; once only: {', '.join(result.once)}" if result.once else ""
    return f"{result.mutant}\n    noticed by {by} after {result.seconds:.0f} s{alone}{once}"


def _say(line: str) -> None:
    print(line, flush=True)


def _end(number: int, _frame: object) -> None:
    # An exception, so that what was started is ended.
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    # A shell starts what it puts into the background without Ctrl-C; the tests are about it, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sys.exit(min(1, main(sys.argv[1:])))
    except BaselineError as error:
        sys.exit(str(error))
