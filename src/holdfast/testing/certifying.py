"""Running the proof on a disk, sweep by sweep, each in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from holdfast.errors import ConfigError, HoldfastError, StorageFullError
from holdfast.testing.certificate import Certificate, Part, Surroundings
from holdfast.testing.outcome import Outcome, Progress

_PREFIX: Final = ".holdfast-certify-"
#: What the largest sweep needs at once, with room to spare.
_NEEDED_NBYTES: Final = 1 << 30
_GRACE_S: Final = 20.0

Watch = Callable[[str], AbstractContextManager[Progress]]


@dataclass(frozen=True, slots=True)
class _Step:
    """A sweep: every how many states the quick form explores, and the full one."""

    title: str
    sweep: str
    scenario: str
    quick: int
    full: int = 1


_STEPS: Final = (
    _Step("killed at each call: training", "kills", "training", 8),
    _Step("killed at each call: large training", "kills", "training, large", 20, 2),
    _Step("killed at each call: pruning", "kills", "prune", 8),
    _Step("killed at each call: repairing", "kills", "repair", 4),
    _Step("killed at each call: pins and late metrics", "kills", "late words", 4),
    _Step("killed at each call: mirroring", "kills", "mirror", 16, 2),
    _Step("killed at each call: healing from a mirror", "kills", "heal", 16, 2),
    _Step("killed, and again while recovering", "compound", "training", 60, 6),
    _Step("errors of the medium: training", "failures", "training", 40, 3),
    _Step("errors of the medium: pruning", "failures", "prune", 20, 2),
    _Step("power cuts, replayed: training", "replays", "training", 40, 2),
    _Step("power cuts, replayed: large training", "replays", "training, large", 80, 4),
    _Step("power cuts, replayed: pruning", "replays", "prune", 30, 3),
    _Step("power cuts on ext4: training", "cuts-ext4", "training", 40, 3),
    _Step("power cuts on xfs: training", "cuts-xfs", "training", 40, 3),
    _Step("power cuts on ext4: pruning", "cuts-ext4", "prune", 20, 2),
    _Step("power cuts on ext4: repairing", "cuts-ext4", "repair", 10, 2),
    _Step("flipped bits, at random", "flips", "training", 20),
    _Step("flipped bits, in each region", "regions", "training", 200, 8),
    _Step("cut, extended and zeroed files", "lengths", "training", 8),
    _Step("swapped, missing and aged files", "exchanges", "training", 8),
)


def certify(
    path: str | os.PathLike[str], *, quick: bool = False, watch: Watch | None = None
) -> Certificate:
    """Proves on one's own disk that what is promised is kept: kills, errors, power cuts, flips.

    All of it happens in a scratch folder below `path`, which is removed at the end.

    Args:
        path: A folder on the medium to be proven.
        quick: Explore a sample of the states: about a minute instead of many.
        watch: Called with the title of each sweep for a context in which it runs; what that
            yields is told the states explored so far and their total.

    Raises:
        ConfigError: The folder is not there, or cannot be written.
        StorageFullError: It has less room than the proof needs.
        HoldfastError: A sweep could not be run to its end.
    """
    folder = Path(path).expanduser().absolute()
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(
            f"{folder} is not a folder that can be written",
            hint="name a folder on the disk that is to be proven",
        )
    _remove_leftovers(folder)
    free = shutil.disk_usage(folder).free
    if free < _NEEDED_NBYTES:
        raise StorageFullError(
            f"the proof needs {_NEEDED_NBYTES} bytes of {folder}, {free} are free",
            hint="free some space, or name a folder on the same disk that has more",
            needed=_NEEDED_NBYTES,
            free=free,
        )
    surroundings = Surroundings.of(folder)
    parts = []
    for step in _STEPS:
        with (watch or _unwatched)(step.title) as progress:
            began = time.monotonic()
            outcome = _run(step, folder, step.quick if quick else step.full, progress)
        parts.append(Part(step.title, outcome, time.monotonic() - began))
    return Certificate(surroundings, quick, time.time(), tuple(parts))


def _run(step: _Step, folder: Path, stride: int, progress: Progress) -> Outcome:
    scratch = Path(tempfile.mkdtemp(prefix=f"{_mine()}{os.getpid()}-", dir=folder))
    command = [sys.executable, "-m", "holdfast.testing", step.sweep, step.scenario, str(scratch)]
    try:
        with (
            tempfile.TemporaryFile("w+") as told,
            _worker([*command, str(stride)], told.fileno()) as worker,
        ):
            for line in worker.stdout or ():
                said = json.loads(line)
                if "outcome" in said:
                    return Outcome.from_dict(said["outcome"])
                progress(said["done"], said["total"])
            told.seek(0)
            last = (told.read().strip().splitlines() or ["it said nothing"])[-1]
            raise HoldfastError(
                f"the sweep {step.title!r} ended early, with status {worker.wait()}: {last}",
                hint="try `holdfast certify --quick`; if it happens again, report it",
            )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def _worker(command: list[str], errors: int) -> Iterator[subprocess.Popen[str]]:
    # A session of its own: Ctrl-C comes to this process, which ends the sweep and what it forked.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    worker = subprocess.Popen(  # noqa: S603 - this interpreter, and names from the table above
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        start_new_session=True,
        env=environment,
    )
    try:
        yield worker
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGTERM)
        try:
            worker.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
        if worker.stdout is not None:
            worker.stdout.close()


def _mine() -> str:
    """Returns how scratch folders of this host begin: the disk may be another one's, too."""
    return f"{_PREFIX}{socket.gethostname()}-"


def _remove_leftovers(folder: Path) -> None:
    """Removes scratch folders of proofs that were killed."""
    for left in folder.glob(f"{_PREFIX}*"):
        whose, _, owner = left.name.rpartition("-")[0].rpartition("-")
        if f"{whose}-" == _mine() and owner.isdigit() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _unwatched(_title: str) -> Iterator[Progress]:
    yield lambda _done, _total: None
