"""Work whose real system calls are counted, failed, or made the last ones, by strace.

What the seam of `holdfast.storage` cannot reach is met here, too: the database's calls, locks,
permissions. Only calls on files of the store count; a fault that meets another is no state.
"""

import os
import shutil
import signal
import subprocess
import traceback
from collections import Counter, defaultdict
from dataclasses import dataclass

from holdfast.errors import HoldfastError
from holdfast.storage import Posix
from holdfast.testing.disturbing import REFUSED, Bench, judged
from holdfast.testing.outcome import Outcome, Tally

CHANGING = (
    "openat", "write", "pwrite64", "fsync", "fdatasync", "rename", "renameat2", "link", "linkat",
    "unlink", "unlinkat", "mkdir", "mkdirat", "ftruncate", "fallocate",
)  # fmt: skip
KILLING = (*CHANGING, "rmdir", "flock", "fchmod")
_FULL = ("openat", "write", "pwrite64", "fsync", "fdatasync", "rename", "renameat2", "link",
         "linkat", "mkdir", "mkdirat", "ftruncate", "fallocate")  # fmt: skip
#: Errors to the calls that a medium answers with them.
FAILING = {
    "EIO": CHANGING,
    "ENOSPC": _FULL,
    "EDQUOT": _FULL,
    "EMFILE": ("openat",),
}


BROKEN = 11


@dataclass(frozen=True)
class Injection:
    """What happens at the n-th call of a name, counted per thread.

    Attributes:
        call: The system call's name.
        at: Its number, from 1.
        error: The error's name; empty for a kill.
        lasting: Whether all later ones fail, too.
    """

    call: str
    at: int
    error: str = ""
    lasting: bool = False

    def __str__(self):
        then = " from then on" if self.lasting else ""
        return f"{self.call} {self.at}: {self.error or 'KILL'}{then}"

    @property
    def option(self):
        what = f"error={self.error}" if self.error else "signal=KILL"
        return f"inject={self.call}:{what}:when={self.at}{'+' if self.lasting else ''}"


class TracedBench(Bench):
    """A bench whose work is done under strace."""

    def __init__(self, scenario, folder):
        super().__init__(scenario, folder)
        self._log = folder / "log"
        self._words = folder / "words"
        # Imports and compiled statements: each child would make them anew, under strace.
        self.fresh()
        self.scenario.act(self.root, Posix(), lambda _: None)
        self.check()

    def trace(self, options):
        """Does the work from a fresh start; returns its status and strace's lines of the store."""
        self.fresh()
        # Opened here, and written by writev, which is not among the calls that fail: the files
        # stand for the caller's mind.
        said = os.open(self._said, os.O_WRONLY | os.O_APPEND)
        words = os.open(self._words, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        ready, go = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(go)
            os.read(ready, 1)
            os._exit(self._traced(said, words))
        for fd in (ready, said, words):
            os.close(fd)
        tracer = subprocess.Popen(
            ["strace", "-f", "-y", "-s", "0", "-p", str(child), "-o", str(self._log), *options],
            stderr=subprocess.PIPE,
            text=True,
        )
        attached = tracer.stderr.readline()
        assert "attached" in attached, attached
        os.write(go, b"1")
        os.close(go)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        tracer.communicate()
        return status, self._log.read_text(errors="replace").splitlines()

    def words(self):
        """Returns what the work had to say when it ended in another way than with our error."""
        return self._words.read_text()[-1500:]

    def _traced(self, said, words):
        def promise(line):
            os.writev(said, [f"{line}\n".encode()])

        try:
            self.scenario.act(self.root, Posix(), promise)
        except HoldfastError:
            return REFUSED
        except BaseException:  # noqa: BLE001 - told to the parent, in full
            os.writev(words, [traceback.format_exc().encode()])
            return BROKEN
        return 0


def calls_on(root, lines, names):
    """Returns call to the numbers, per thread, at which some thread's call meets the store."""
    made = defaultdict(Counter)
    found = {name: set() for name in names}
    for line in lines:
        thread, _, rest = line.partition(" ")
        name = rest.strip().partition("(")[0]
        if name in found:
            made[thread][name] += 1
            if str(root) in rest:
                found[name].add(made[thread][name])
    return {name: sorted(numbers) for name, numbers in found.items()}


def sweep(scenario, folder, injections, *, name):
    """Explores what injections leave.

    Args:
        scenario: The work.
        folder: An empty folder.
        injections: Returns them, told call to numbers.
        name: What the outcome calls it.
    """
    if shutil.which("strace") is None:
        return Outcome(name, scenario.name, skipped="strace is not installed")
    bench = TracedBench(scenario, folder)
    tally = Tally(name, scenario.name, lambda a, b: None)
    status, lines = bench.trace(["-e", f"trace={','.join(f'?{call}' for call in KILLING)}"])
    assert status == 0, bench.words()
    for injection in injections(calls_on(bench.root, lines, KILLING)):
        options = ["-e", f"trace={injection.call}", "-e", injection.option]
        status, lines = bench.trace(options)
        if not has_met(bench.root, lines, status, injection):
            continue
        kind = injection.call + (f" {injection.error}" if injection.error else "")
        wrong = ""
        if status not in (0, REFUSED, -signal.SIGKILL):
            wrong = f"the work ended with status {status}: {bench.words()}"
        wrong = wrong or judged(bench.check)
        tally.add(kind, wrong and f"{injection}: {wrong}")
    return tally.outcome()


def has_met(root, lines, status, injection):
    """Returns whether the fault fired, at a call on the store."""
    if not injection.error:
        return status == -signal.SIGKILL
    return any("(INJECTED)" in line and str(root) in line for line in lines)
