"""Reading a SQLite file that others may be writing, without leaving a trace beside it.

SQLite itself creates ``-wal`` and ``-shm`` files even for a reader. With nothing in the log the
file is read as it stands; otherwise the file and its log are copied to a private folder, outside
the store, and the copy is opened.
"""

from __future__ import annotations

import atexit
import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from holdfast.errors import ConfigError, LockedError, StorageFullError

_ATTEMPTS = 8
_WAL_HEADER_NBYTES = 32
_LOGS = ("-wal", "-journal")


@dataclass(frozen=True, slots=True)
class Signature:
    """What tells that a catalog's files changed: inode, size and mtime of the file and its logs."""

    files: tuple[tuple[int, int, int] | None, ...]

    @property
    def missing(self) -> bool:
        """Whether there is no database; SQLite drops a log without its file, too."""
        return self.files[0] is None or self.files[0][1] == 0


def signature(path: Path) -> Signature:
    """Returns the signature of a database file."""
    return Signature(tuple(_facts(Path(f"{path}{ending}")) for ending in ("", *_LOGS)))


def needs_copy(path: Path) -> bool:
    """Returns whether a log holds what the file does not."""
    return any((_facts(Path(f"{path}{ending}")) or (0, 0, 0))[1] > 0 for ending in _LOGS)


def copy_of(path: Path) -> tuple[Path, Callable[[], None]]:
    """Returns a private copy of a database with its logs, and what removes it.

    The copy is of one moment: it is made again where a checkpoint of the log ran meanwhile.
    Commits appended to the log meanwhile do no harm; the log's checksums end it cleanly.

    Raises:
        LockedError: The file changed during every attempt.
        StorageFullError: The folder for temporary files has no room for it.
        ConfigError: It cannot be read, or the copy not be written.
    """
    folder = Path(tempfile.mkdtemp(prefix="holdfast-catalog-"))
    release = _remover(folder)
    copied = folder / path.name
    try:
        for _ in range(_ATTEMPTS):
            before = _moment(path)
            _copy(path, copied)
            if _moment(path) == before:
                return copied, release
    except OSError as error:
        release()
        kind = StorageFullError if error.errno == errno.ENOSPC else ConfigError
        raise kind(
            f"the catalog {path.name} cannot be copied for reading: {error}",
            hint="set TMPDIR to a folder with room for it, or open the store for writing",
        ) from error
    release()
    raise LockedError(
        f"the catalog {path.name} changed each time it was copied for reading",
        hint="try again when the process that writes it is less busy, or open it for writing",
    )


def _copy(path: Path, copied: Path) -> None:
    for ending in ("", *_LOGS):
        target = Path(f"{copied}{ending}")
        target.unlink(missing_ok=True)
        try:
            shutil.copyfile(f"{path}{ending}", target)
        except FileNotFoundError:
            continue  # a log that is not there holds nothing


def _moment(path: Path) -> tuple[object, ...]:
    # A rollback journal counts as a whole. Of a log only its head does: it grows with each
    # commit, and starts again with another head after a checkpoint.
    wal = Path(f"{path}-wal")
    try:
        with wal.open("rb") as file:
            head = file.read(_WAL_HEADER_NBYTES)
    except FileNotFoundError:
        head = b""
    return _facts(path), head, _facts(Path(f"{path}-journal"))


def _facts(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _remover(folder: Path) -> Callable[[], None]:
    owner = os.getpid()

    def remove() -> None:
        # A forked child that ends must not take away what its parent reads.
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

        atexit.unregister(remove)

    atexit.register(remove)
    return remove
