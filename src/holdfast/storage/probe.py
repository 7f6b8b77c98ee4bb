"""What a place can do, found by trying it rather than by its name."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import secrets
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

from holdfast.storage.draft import ALIGNMENT

#: Filesystems on which SQLite's write-ahead log does not work: its shared memory is not shared
#: between hosts (https://www.sqlite.org/wal.html, "WAL does not work over a network filesystem").
_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "beegfs", "ceph", "afs", "9p", "fuse.sshfs"}
)
#: Memory is their medium: going past the page cache would save nothing.
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})
#: Of `man 2 statx`; `stx_dio_mem_align` and `stx_dio_offset_align` stand one behind the other.
_AT_FDCWD = -100
_STATX_DIOALIGN = 0x2000
_DIOALIGN_AT = 152


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What was found about a place.

    Attributes:
        filesystem: Its type as the kernel names it, or "unknown".
        hard_links: Whether a file can have two names.
        folder_sync: Whether a folder can be synced.
        direct_alignment: Alignment in bytes that O_DIRECT wants; 0 where it is not used: unknown
            there, on a network, in memory, or coarser than a page.
        full_fsync: Whether F_FULLFSYNC is needed and used (macOS).
        sqlite_wal: Whether SQLite's write-ahead log can be relied on.
    """

    filesystem: str
    hard_links: bool
    folder_sync: bool
    direct_alignment: int
    full_fsync: bool
    sqlite_wal: bool


def probe(folder: Path) -> Capabilities:
    """Tries out a writable folder; leaves nothing behind.

    Raises:
        OSError: The folder cannot be written.
    """
    filesystem = filesystem_of(folder)
    # Random: another thread may probe, too, and a killed process of this id may have left some.
    first = folder / f".tmp-probe-{secrets.token_hex(8)}"
    second = first.with_name(f"{first.name}-link")
    try:
        # Left empty: a full medium must still open, to be pruned.
        first.touch(exist_ok=False)
        return Capabilities(
            filesystem=filesystem,
            hard_links=_can_link(first, second),
            folder_sync=_can_sync_folder(folder),
            direct_alignment=_direct_alignment(first, filesystem),
            full_fsync=sys.platform == "darwin",
            sqlite_wal=filesystem not in _NETWORK,
        )
    finally:
        for path in (first, second):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


def filesystem_of(folder: Path) -> str:
    """Returns the type of the filesystem that holds a folder, or "unknown"."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "unknown"
    device = os.stat(folder).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        if left.split()[2:3] == [wanted]:
            return right.split()[0]
    return "unknown"


def _can_link(first: Path, second: Path) -> bool:
    try:
        os.link(first, second)
    except OSError:
        return False
    return os.stat(first).st_nlink == 2


def _can_sync_folder(folder: Path) -> bool:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _direct_alignment(path: Path, filesystem: str) -> int:
    if not hasattr(os, "O_DIRECT") or filesystem in _NETWORK | _IN_MEMORY:
        return 0
    stated = _stated_alignment(path)
    if stated is not None:
        return stated if stated <= ALIGNMENT else 0
    return _tried_alignment(path)


def _stated_alignment(path: Path) -> int | None:
    """Returns what statx says of O_DIRECT on a file: 0 for none, None where it says nothing."""
    statx = getattr(ctypes.CDLL(None, use_errno=True), "statx", None)
    answer = ctypes.create_string_buffer(256)
    if statx is None or statx(_AT_FDCWD, os.fsencode(path), 0, _STATX_DIOALIGN, answer) != 0:
        return None
    (mask,) = struct.unpack_from("=I", answer, 0)
    memory, offset = struct.unpack_from("=II", answer, _DIOALIGN_AT)
    return max(memory, offset) if mask & _STATX_DIOALIGN else None


def _tried_alignment(path: Path) -> int:
    with mmap.mmap(-1, 2 * ALIGNMENT) as memory, memoryview(memory) as view:
        for alignment in (512, ALIGNMENT):
            with contextlib.suppress(OSError):
                fd = os.open(path, os.O_WRONLY | os.O_DIRECT)
                try:
                    os.pwrite(fd, view[alignment : 2 * alignment], 0)
                finally:
                    os.close(fd)
                return alignment
    return 0
