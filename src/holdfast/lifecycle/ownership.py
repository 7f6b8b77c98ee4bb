"""Who writes a run, who did, and noting that its owner died."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from holdfast.engine import names
from holdfast.errors import HoldfastError, LockedError, SaveError
from holdfast.lifecycle.place import Place
from holdfast.storage import FileLock, FolderGoneError, LocalStorage

_LOCK_NBYTES: Final = 4096
_ATTEMPTS: Final = 100


@dataclass(frozen=True, slots=True)
class Standing:
    """How a run stands towards its lock.

    Attributes:
        mine: Whether nobody writes the run; where the lock was taken, until it is given back.
        fault: Why the lock cannot be opened; empty where it can.
        last_owner: Who signed the lock last, as a sentence.
        taken_since: Says whether somebody took the lock after it was looked at.
    """

    mine: bool
    fault: str
    last_owner: str
    taken_since: Callable[[], bool]

    @property
    def busy(self) -> bool:
        """Whether another process writes the run."""
        return not self.mine and not self.fault


def take_up(storage: LocalStorage, run: str, *, timeout_s: float) -> FileLock:
    """Takes the lock of a run that may not exist yet; its folder is there then.

    Raises:
        LockedError: Another process held it all the time.
        SaveError: The medium failed.
    """
    folder = names.folder_of_run(run)
    lock = storage.lock(f"{folder}/{names.LOCK}")
    for _ in range(_ATTEMPTS):
        storage.make_folder(folder)
        try:
            lock.acquire(timeout_s=timeout_s)
        except FolderGoneError:
            # A clean-up took the empty folder away in between. Once the lock is held, none does.
            continue
        return lock
    raise SaveError(
        f"{folder} is removed as often as it is made",
        hint="see which process looks after the store, and stop it",
    )


@contextlib.contextmanager
def standing(place: Place, run: str, *, take: bool) -> Iterator[Standing]:
    """Tells how a run stands; with `take`, nobody can write it until the end of the block."""
    path = f"{names.folder_of_run(run)}/{names.LOCK}"
    # Before it is taken: whoever takes a lock signs it.
    owner, fault = _signature(place, path)
    lock = place.storage.lock(path)
    mine = False
    if not fault:
        try:
            if take:
                lock.acquire(timeout_s=0)
            mine = take or not lock.busy()
        except (LockedError, FolderGoneError):
            # Of a run that another process removed, nothing is this one's, either.
            mine = False
        except SaveError as error:
            fault = error.message
        except OSError as error:
            fault = f"it cannot be opened: {error.strerror}"
    try:
        yield Standing(mine, fault, owner, lambda: not take and lock.busy())
    finally:
        lock.release()


def note_interrupted(place: Place, run: str) -> None:
    """Notes that a run's owner died; the caller holds the run's lock.

    Raises:
        SaveError, StorageFullError: The journal could not be written.
    """
    line = {"t": "status", "at": time.time(), "status": "interrupted", "final": False}
    place.append(
        run,
        [line],
        durable=True,
        index=lambda catalog: catalog.set_status(run, "interrupted"),
    )


def _signature(place: Place, path: str) -> tuple[str, str]:
    """Returns who signed a lock last, as a sentence, and why it cannot be opened, if it cannot."""
    nobody = "its last owner left no name"
    try:
        content = place.storage.read(path, limit=_LOCK_NBYTES)
    except FileNotFoundError:
        return nobody, ""
    except HoldfastError as error:
        return nobody, error.message
    try:
        owner = json.loads(content)
        pid, host, since = int(owner["pid"]), str(owner["host"])[:64], float(owner["since"])
        moment = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        # Nothing rests on the signature: a full disk or a crash may have taken it.
        return nobody, ""
    return f"its last owner was pid {pid} on {host}, since {moment}", ""
