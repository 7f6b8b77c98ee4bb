"""A small filesystem of its own in a file, which can be cut off as by a loss of power.

Linux only, root only. Nothing of it outlives the process, however that ends: the image has no
name, the loop device gives itself back when nobody holds it any more, and a mount that is made
after `enter_own_mounts` is seen by nobody else and goes with its last process.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

from holdfast.errors import HoldfastError

#: What a cut leaves: ``synced`` keeps what was made durable on purpose, ``logged`` also what the
#: filesystem had in its log by chance: names, while the bytes of unsynced files are lost.
Cut = Literal["synced", "logged"]

#: The smallest that mkfs makes of each, with room for the scenarios; the files are sparse.
SIZES: Final[Mapping[str, int]] = {"ext4": 64 << 20, "xfs": 300 << 20}

_MKFS: Final[Mapping[str, tuple[str, ...]]] = {
    # Nothing is left to a thread of the kernel that would write on behind the test's back.
    # Nothing is reserved for root, who would write on where the disk is full for all others.
    "ext4": (
        *("mkfs.ext4", "-q", "-F", "-m", "0"),
        *("-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"),
    ),
    "xfs": ("mkfs.xfs", "-q", "-f", "-K"),
}
#: ext4 commits its log every five seconds by itself, which would hide a missing fsync.
_OPTIONS: Final[Mapping[str, bytes]] = {"ext4": b"commit=900", "xfs": b""}

# Of linux/loop.h.
_LOOP_CTL_GET_FREE: Final = 0x4C82
_LOOP_CONFIGURE: Final = 0x4C0A
_LO_FLAGS_AUTOCLEAR: Final = 4
_LOOP_CONFIG: Final = "=II5QIIII64s64s32s2Q64x"
# Of sched.h, sys/mount.h, and XFS_IOC_GOINGDOWN, which ext4 knows, too.
_CLONE_NEWNS: Final = 0x00020000
_MS_NOATIME: Final = 1024
_MS_REC_PRIVATE: Final = 16384 | (1 << 18)
_MNT_DETACH: Final = 2
_GOINGDOWN: Final = 0x8004587D
_CUTS: Final[Mapping[Cut, int]] = {"logged": 1, "synced": 2}


class LoopDisk:
    """A filesystem in a file, to be mounted, cut off and mounted again.

    Args:
        folder: Where its image lies, on the medium that is to be proven.
        filesystem: ``ext4`` or ``xfs``.
        nbytes: Size of the filesystem; the image takes what is written to it.

    Attributes:
        mount_point: Where it is while it is mounted.

    Raises:
        OSError: The system does not allow it.
        HoldfastError: mkfs failed.
    """

    def __init__(self, folder: Path, filesystem: str = "ext4", *, nbytes: int = 0) -> None:
        self.filesystem = filesystem
        self.mount_point = folder / f"holdfast-{filesystem}"
        self._mounted = False
        with contextlib.ExitStack() as undo:
            image = undo.enter_context(_unnamed(folder, nbytes or SIZES[filesystem]))
            self._device, self._path = _attach(image)
            undo.callback(os.close, self._device)
            _make_filesystem(filesystem, self._path)
            self.mount_point.mkdir()
            undo.callback(self.mount_point.rmdir)
            undo.callback(self._detach)
            self._undo = undo.pop_all()

    def __enter__(self) -> LoopDisk:
        self.mount()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def mount(self) -> None:
        """Mounts it, which replays its log where it was cut off."""
        source, kind = os.fsencode(self._path), os.fsencode(self.filesystem)
        _call(
            "mount",
            source,
            os.fsencode(self.mount_point),
            kind,
            _MS_NOATIME,
            _OPTIONS[self.filesystem],
        )
        self._mounted = True

    def unmount(self) -> None:
        """Unmounts it; nothing may be open there."""
        _call("umount2", os.fsencode(self.mount_point), 0)
        self._mounted = False

    def sync(self) -> None:
        """Makes everything on it durable."""
        fd = os.open(self.mount_point, os.O_RDONLY)
        try:
            _call("syncfs", fd)
        finally:
            os.close(fd)

    def cut(self, how: Cut = "synced") -> None:
        """Cuts it off: from here on every call fails, and nothing more reaches the image."""
        fd = os.open(self.mount_point, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _GOINGDOWN, struct.pack("=I", _CUTS[how]))
        finally:
            os.close(fd)

    def close(self) -> None:
        """Unmounts it and gives everything back."""
        self._undo.close()

    def _detach(self) -> None:
        if self._mounted:
            # Also where something is open there still: the last one closes the door.
            _call("umount2", os.fsencode(self.mount_point), _MNT_DETACH)
            self._mounted = False


def missing_for(filesystem: str, folder: Path) -> str:
    """Returns why a filesystem cannot be made, mounted and cut off here; empty where it can."""
    if sys.platform != "linux":
        return "loop-mounted filesystems need Linux"
    if os.geteuid() != 0:
        return "loop-mounted filesystems need root"
    program = _MKFS[filesystem][0]
    if shutil.which(program) is None:
        return f"{program} is not installed"
    room = os.statvfs(folder)
    if room.f_bavail * room.f_frsize < SIZES[filesystem]:
        return f"{folder} has less than {SIZES[filesystem] >> 20} MiB free"
    return ""


def enter_own_mounts() -> None:
    """Gives this process mounts of its own: what it mounts is seen by it and its children alone.

    Raises:
        OSError: The system does not allow it.
    """
    _call("unshare", _CLONE_NEWNS)
    _call("mount", b"none", b"/", None, _MS_REC_PRIVATE, None)


@contextlib.contextmanager
def _unnamed(folder: Path, nbytes: int) -> Iterator[int]:
    """A file of a size that has no name, so that it goes with its last descriptor."""
    with tempfile.TemporaryFile(dir=folder) as file:
        os.ftruncate(file.fileno(), nbytes)
        yield file.fileno()


def _attach(image: int) -> tuple[int, str]:
    """Returns a loop device on a file: a descriptor that keeps it, and its path."""
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        while True:
            number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            path = f"/dev/loop{number}"
            device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(device, _LOOP_CONFIGURE, _loop_config(image))
            except OSError as error:
                os.close(device)
                # Another process was faster: the next free one.
                if error.errno != errno.EBUSY:
                    raise
            else:
                return device, path
    finally:
        os.close(control)


def _loop_config(image: int) -> bytes:
    name = b"holdfast power cuts"
    zeros = (0,) * 5
    return struct.pack(
        _LOOP_CONFIG, image, 0, *zeros, 0, 0, 0, _LO_FLAGS_AUTOCLEAR, name, b"", b"", 0, 0
    )


def _make_filesystem(filesystem: str, device: str) -> None:
    made = subprocess.run(  # noqa: S603 - the program is one of two, the device ours
        [*_MKFS[filesystem], device], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        raise HoldfastError(
            f"{_MKFS[filesystem][0]} failed: {made.stderr.strip()}",
            hint="check that the disk has room, and that e2fsprogs or xfsprogs is whole",
        )


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
