"""Small filesystems of a test's own, and filling them."""

import contextlib
import ctypes
import os

import pytest

from holdfast.testing import loopdisk

NBYTES = 24 << 20
FILESYSTEMS = ("tmpfs", "ext4")
_DETACH = 2


@contextlib.contextmanager
def small_disk(tmp_path, filesystem, *, nbytes=NBYTES):
    """Yields a folder on a filesystem of its own; skips the test where none can be mounted."""
    if filesystem == "tmpfs":
        with in_memory(tmp_path, nbytes) as folder:
            yield folder
        return
    reason = loopdisk.missing_for(filesystem, tmp_path)
    if reason:
        pytest.skip(reason)
    with loopdisk.LoopDisk(tmp_path, filesystem, nbytes=nbytes) as disk:
        yield disk.mount_point


@contextlib.contextmanager
def in_memory(tmp_path, nbytes):
    libc = ctypes.CDLL(None, use_errno=True)
    folder = tmp_path / "holdfast-tmpfs"
    folder.mkdir()
    if libc.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, f"size={nbytes}".encode()) != 0:
        pytest.skip(f"no permission to mount: {os.strerror(ctypes.get_errno())}")
    try:
        yield folder
    finally:
        libc.umount2(bytes(folder), _DETACH)


def fill(folder, *, leave=0):
    """Writes a file until the filesystem has this many bytes left; 0 for not a single one."""
    with (folder / "ballast").open("ab", buffering=0) as file:
        if leave:
            os.posix_fallocate(file.fileno(), 0, max(1, free(folder) - leave))
            os.fsync(file.fileno())
            return
        with contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        os.fsync(file.fileno())


def empty(folder):
    """Takes away what `fill` wrote."""
    (folder / "ballast").unlink(missing_ok=True)


def free(folder):
    """Returns the bytes that can still be written."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize
