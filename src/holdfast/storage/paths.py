"""From paths within a store to absolute ones: none leaves the store, by its words or by a link."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from holdfast.errors import FormatError

#: Folders this deep (``shards/3f``, ``runs/digits``) are looked at once: a save goes through them
#: dozens of times. A checkpoint's folder is looked at each time.
_REMEMBERED_DEPTH: Final = 2


class Paths:
    """The absolute forms of a store's paths.

    The store's folder itself may be a symbolic link. Within it no folder is one: a file is read,
    written or deleted only where the store really is. `O_NOFOLLOW` says so of a path's last part
    alone. Someone who changes folders at the very same moment is not held off by this.

    Args:
        root: The store's folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = os.fspath(root)
        self._real: set[str] = set()

    def of_file(self, path: str) -> str:
        """Returns a path's absolute form; the folders above it are no symbolic links.

        Raises:
            FormatError: It would leave the store.
        """
        parts = _parts(path)
        self._require_folders(parts[:-1])
        return os.path.join(self._root, path)

    def of_folder(self, path: str) -> str:
        """Returns the same for a path that is no symbolic link itself.

        Raises:
            FormatError: It would leave the store.
        """
        self._require_folders(_parts(path))
        return os.path.join(self._root, path)

    def _require_folders(self, parts: list[str]) -> None:
        path = ""
        for depth, part in enumerate(parts, start=1):
            path = f"{path}/{part}" if path else part
            if path in self._real:
                continue
            try:
                mode = os.lstat(os.path.join(self._root, path)).st_mode
            except OSError:
                # What is not there leads nowhere; whatever else is wrong is met by the caller.
                return
            if stat.S_ISLNK(mode):
                raise FormatError(
                    f"the folder {path} is a symbolic link, and leads out of its store",
                    hint="Holdfast never makes one: move the folder itself here, or link the "
                    "whole store",
                )
            if depth <= _REMEMBERED_DEPTH:
                self._real.add(path)


def _parts(path: str) -> list[str]:
    parts = [part for part in path.split("/") if part]
    if path.startswith("/") or ".." in parts or "\0" in path:
        raise FormatError(f"the path {path!r} leaves its store", hint="do not open this store")
    return parts
