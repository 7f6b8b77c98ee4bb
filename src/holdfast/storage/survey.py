"""A look at thousands of folders and files at once: a system call or two each, and little else."""

from __future__ import annotations

import os
from typing import NamedTuple

from holdfast.storage.local import LocalStorage


class Identity(NamedTuple):
    """What tells a file's content from another's without reading it.

    Names of one file have the same identity; a file that took another's place, or was written
    to, has another one.
    """

    device: int
    inode: int
    nbytes: int
    modified_ns: int


def identity(storage: LocalStorage, path: str) -> Identity | None:
    """Returns which file a name leads to; None where it is not there."""
    try:
        status = os.lstat(storage.absolute(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Identity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def survey(storage: LocalStorage, path: str, name: str) -> dict[str, tuple[int, int]]:
    """Returns for each folder in a folder how long a file in it is, and when its names changed.

    Args:
        storage: The store's files.
        path: The folder that holds the folders; symbolic links in it are left out.
        name: The file's name.

    Returns:
        Folder name, sorted, to the file's bytes (0 where there is none) and the folder's time of
        modification in ns.
    """
    found: dict[str, tuple[int, int]] = {}
    with storage.listing(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                found[entry.name] = _facts(entry, name)
    return dict(sorted(found.items()))


def _facts(entry: os.DirEntry[str], name: str) -> tuple[int, int]:
    try:
        # Before the file: what is added meanwhile makes the folder look older than it is.
        modified = entry.stat(follow_symlinks=False).st_mtime_ns
    except FileNotFoundError:
        return 0, 0
    try:
        return os.lstat(f"{entry.path}/{name}").st_size, modified
    except (FileNotFoundError, NotADirectoryError):
        return 0, modified
