"""Files as the benchmark handles them: made durable, dropped from the cache, written raw."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

_PIECE = 32 << 20
_READ_PIECE = 8 << 20
_BLOCK = 4096
#: Steps of this many bytes leave a mark in every page.
PRIME = 4093

Buffer = np.ndarray


def sync_tree(folder: Path) -> None:
    """Makes all files below a folder durable, and their names: fsync of each file and folder."""
    # Deepest first: a folder after what is in it.
    for path in sorted(folder.rglob("*"), reverse=True):
        _sync(path)
    _sync(folder)
    _sync(folder.parent)


def _sync(path: str | Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def files_below(folder: Path) -> list[Path]:
    """Returns all files below a folder, one path for each file however many names it has."""
    found: dict[int, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found.setdefault(path.stat().st_ino, path)
    return list(found.values())


def bytes_below(folder: Path) -> int:
    """Returns the bytes of all files below a folder, each file once."""
    return sum(path.stat().st_size for path in files_below(folder))


def evict(paths: Iterable[Path]) -> None:
    """Drops files from the page cache.

    Raises:
        RuntimeError: More than a hundredth of them stayed there.
    """
    paths = list(paths)
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)
    share = cached_share(paths)
    if share > 0.01:
        raise RuntimeError(f"{share:.0%} of its bytes stayed in the page cache")


def cached_share(paths: Iterable[Path]) -> float:
    """Returns how much of some files is in the page cache, 0 to 1, as mincore(2) says."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    resident = pages = 0
    for path in paths:
        nbytes = path.stat().st_size
        if nbytes == 0:
            continue
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            view = np.frombuffer(mapped, np.uint8)
            held = np.zeros(-(-nbytes // mmap.PAGESIZE), np.uint8)
            if libc.mincore(view.ctypes.data, nbytes, held.ctypes.data) != 0:
                raise OSError(ctypes.get_errno(), "mincore")
            resident += int((held & 1).sum())
            pages += len(held)
            del view
    return resident / pages if pages else 0.0


def touched(nbytes: int) -> Buffer:
    """Returns page-aligned memory whose pages are there already, huge ones where possible."""
    mapped = mmap.mmap(-1, max(nbytes, _BLOCK))
    mapped.madvise(mmap.MADV_HUGEPAGE)
    buffer = np.frombuffer(mapped, np.uint8)
    buffer[:: mmap.PAGESIZE] = 1
    return buffer[:nbytes]


def write_buffered(path: Path, data: Buffer) -> None:
    """Writes a file through the page cache, in large pieces."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        for piece in _pieces(memoryview(data), _PIECE):
            _write_all(fd, piece)
    finally:
        os.close(fd)


def write_direct(path: Path, data: Buffer) -> None:
    """Writes a file past the page cache, into space that was set aside for it."""
    whole = len(data) // _BLOCK * _BLOCK
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_DIRECT)
    try:
        os.posix_fallocate(fd, 0, len(data))
        for piece in _pieces(memoryview(data)[:whole], _PIECE):
            _write_all(fd, piece)
    finally:
        os.close(fd)
    if whole < len(data):
        with path.open("r+b") as file:
            file.seek(whole)
            file.write(data[whole:])


def _write_all(fd: int, piece: memoryview) -> None:
    while len(piece):
        piece = piece[os.write(fd, piece) :]


def _pieces(view: memoryview, size: int) -> Iterator[memoryview]:
    for begin in range(0, len(view), size):
        yield view[begin : begin + size]


def raw_reader(path: Path, target: Buffer, *, threads: int) -> Callable[[], None]:
    """Returns a call that reads a file into memory, its pieces spread over threads."""
    view = memoryview(target)

    def read_part(part: int) -> None:
        fd = os.open(path, os.O_RDONLY)
        try:
            for begin in range(part * _READ_PIECE, len(view), threads * _READ_PIECE):
                end = min(begin + _READ_PIECE, len(view))
                at = begin
                while at < end:
                    at += os.preadv(fd, [view[at:end]], at)
        finally:
            os.close(fd)

    def read() -> None:
        if threads == 1:
            read_part(0)
            return
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(read_part, range(threads)))

    return read
