"""A store's files on a local or mounted filesystem.

Paths are relative to the store's root and use ``/``. What they name was checked by the caller;
this module still refuses to leave the root.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

from holdfast.errors import FormatError, SaveError, StorageFullError
from holdfast.storage.draft import Draft
from holdfast.storage.failures import failure_of
from holdfast.storage.locks import FileLock
from holdfast.storage.openfiles import Appender, OpenFile, listed, opening_error, require_regular
from holdfast.storage.paths import Paths
from holdfast.storage.posix import Buffer, Posix
from holdfast.storage.unshared import appending_alone

#: Published files are read-only: writing through a checkpoint's folder must not change a shard.
#: Who may reach them at all is the folders' matter, which follow the user's umask.
FILE_MODE = 0o444
FOLDER_MODE = 0o777
#: Unfinished files start with this; whoever holds the run's lock may remove them.
TEMPORARY_PREFIX = ".tmp-"

#: No file of that name, and none that could be.
_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})
#: The medium has no hard links, or not between these two places.
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EXDEV})
#: From this size on the free space is looked at before anything is written.
_LARGE_NBYTES = 1 << 20
#: Smaller files go through the page cache: the two are equally fast there.
_DIRECT_NBYTES = 256 << 10


class LocalStorage:
    """Durable files under one root.

    Args:
        root: The store's folder; it exists.
        posix: The system calls; a test passes one that records or fails them.

    Attributes:
        direct: Whether large files are written past the page cache; `probe` says where to.
    """

    def __init__(self, root: Path, *, posix: Posix | None = None) -> None:
        self.root = root
        self.posix = posix or Posix()
        self.direct = False
        self._paths = Paths(root)

    def absolute(self, path: str) -> str:
        """Returns the absolute form of a relative path; as `Paths.of_file`."""
        return self._paths.of_file(path)

    # -- writing ----------------------------------------------------------------------------

    def publish(
        self,
        path: str,
        parts: Sequence[Buffer],
        *,
        sync_folder: bool = True,
        exclusive: bool = False,
    ) -> int:
        """Writes a file so that its name exists only with all of its bytes durable.

        Args:
            path: The final name; its folder exists.
            parts: The bytes, in order.
            sync_folder: Whether the name is durable on return. A caller that publishes several
                files into one folder syncs it once, before anything relies on them.
            exclusive: Raise `FileExistsError` instead of replacing an existing file.

        Returns:
            The number of bytes written.

        Raises:
            StorageFullError: No room; nothing is left behind.
            SaveError: Any other failure of the medium; nothing is left behind.
        """
        target = self.absolute(path)
        expected = sum(memoryview(part).nbytes for part in parts)
        temporary = self._temporary(target)
        with self._translated(f"writing {path}", expected):
            if expected >= _LARGE_NBYTES and expected > self.free_nbytes():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            try:
                self._write_durably(temporary, parts, expected, path)
                if exclusive:
                    self._name_exclusively(temporary, target)
                else:
                    self.posix.rename(temporary, target)
            except BaseException:
                with contextlib.suppress(OSError):
                    self.posix.unlink(temporary)
                raise
            if sync_folder:
                self.posix.fsync_folder(os.path.dirname(target))
        return expected

    def _name_exclusively(self, temporary: str, target: str) -> None:
        try:
            # The one call that names a file only if nothing has the name.
            self.posix.link(temporary, target)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # Without hard links there is none: of two that come at one moment, the later wins.
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from error
            self.posix.rename(temporary, target)
        else:
            self.posix.unlink(temporary)

    def _write_durably(
        self, temporary: str, parts: Sequence[Buffer], expected: int, path: str
    ) -> None:
        fd = self.posix.create(temporary, 0o600)
        try:
            self.posix.write(fd, parts)
            os.fchmod(fd, FILE_MODE)
            length = os.fstat(fd).st_size
            if length != expected:
                raise SaveError(
                    f"{path} has {length} bytes after writing {expected}",
                    hint="another program writes into the store, or the medium is failing",
                )
            # Never retried: after a failed fsync the kernel may have dropped the pages.
            self.posix.fsync(fd)
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(fd)
            raise
        self.posix.close(fd)

    def draft(self, folder: str, label: str, *, start: int, expected: int) -> Draft:
        """Begins a large file, to be written piece by piece, and named by `publish_draft`.

        Args:
            folder: Where it is going to be; it exists.
            label: What messages call it.
            start: Bytes left free at its front.
            expected: How long it is going to be, for telling early that there is no room.

        Raises:
            StorageFullError, SaveError: The medium failed; nothing is left behind.
        """
        path = f"{folder}/{label}"
        with self._translated(f"writing {path}", expected):
            if expected >= _LARGE_NBYTES and expected > self.free_nbytes():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return Draft(
            self.posix,
            temporary=self._temporary(self.absolute(path)),
            label=path,
            mode=FILE_MODE,
            start=start,
            direct=self.direct and expected >= _DIRECT_NBYTES,
            translated=lambda doing: self._translated(doing, expected),
        )

    def publish_draft(self, draft: Draft, path: str) -> None:
        """Makes a draft durable under its name; the folder is not synced.

        Raises:
            StorageFullError, SaveError: The medium failed.
        """
        draft.publish(self.absolute(path))

    def sync_folder(self, path: str, *, gone_ok: bool = False) -> bool:
        """Makes the names in a folder durable.

        Returns:
            False where it is gone; without `gone_ok` that is an error.

        Raises:
            SaveError: The medium reported a failure.
        """
        with self._translated(f"syncing the folder {path or '.'}", 0):
            try:
                self.posix.fsync_folder(self._paths.of_folder(path))
            except FileNotFoundError:
                if not gone_ok:
                    raise
                return False
        return True

    def make_folder(self, path: str, *, exclusive: bool = False, durable: bool = True) -> None:
        """Creates a folder and those above it.

        Args:
            path: The folder.
            exclusive: Raise `FileExistsError` where it is there already.
            durable: Whether each name is durable in its parent on return.

        Raises:
            FileExistsError: See `exclusive`.
            SaveError, StorageFullError: The medium reported a failure.
        """
        absolute = self._paths.of_folder(path)
        if (parent := path.rpartition("/")[0]) and not os.path.isdir(self._paths.of_folder(parent)):
            self.make_folder(parent)
        with self._translated(f"creating the folder {path}", 0):
            try:
                self.posix.mkdir(absolute, FOLDER_MODE)
            except FileExistsError:
                if exclusive or not os.path.isdir(absolute):
                    raise
            if durable:
                # Also where it was there: whoever made it may have died, or not come to this yet.
                self.posix.fsync_folder(os.path.dirname(absolute))

    def link(self, source: str, target: str) -> bool:
        """Gives a file a second name; the folder of the target is not synced.

        Returns:
            False where the source is gone or has as many names as the filesystem allows, or
            where the medium has no hard links: the caller writes a copy then.
        """
        try:
            self.posix.link(self.absolute(source), self.absolute(target))
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno in _NO_LINKS or error.errno in (errno.ENOENT, errno.EMLINK):
                return False
            raise self._error(f"linking {target}", error, 0) from error
        return True

    def relink(self, source: str, target: str) -> None:
        """Makes `target` another name of `source`, whatever had the name before."""
        temporary = self._temporary(self.absolute(target))
        with self._translated(f"linking {target}", 0):
            self.posix.link(self.absolute(source), temporary)
            try:
                self.posix.rename(temporary, self.absolute(target))
            finally:
                # rename() of two names of one file does nothing, and leaves the first.
                with contextlib.suppress(FileNotFoundError):
                    self.posix.unlink(temporary)

    def remove(self, path: str) -> bool:
        """Takes a name away; returns False where it was gone already."""
        try:
            self.posix.unlink(self.absolute(path))
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._error(f"deleting {path}", error, 0) from error
        return True

    def remove_folder(self, path: str) -> bool:
        """Removes an empty folder; returns False where it is gone or not empty."""
        try:
            self.posix.rmdir(self._paths.of_folder(path))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise self._error(f"deleting the folder {path}", error, 0) from error
        return True

    # -- appending --------------------------------------------------------------------------

    @contextlib.contextmanager
    def appending(self, path: str) -> Iterator[Appender]:
        """Opens a file for appending, alone: other processes' appends wait meanwhile.

        Raises:
            StorageFullError, SaveError: The medium failed; a torn tail may be left.
        """
        absolute = self.absolute(path)
        with (
            self._translated(f"appending to {path}", 0),
            appending_alone(self.posix, absolute, 0o666) as fd,
        ):
            require_regular(fd, path)
            yield Appender(self.posix, fd)

    # -- reading ----------------------------------------------------------------------------

    def read(self, path: str, *, limit: int | None = None) -> bytes:
        """Returns a file's bytes.

        Raises:
            FileNotFoundError: It is not there.
            FormatError: It is larger than `limit`, or not a regular file.
            IntegrityError: The medium could not read it.
        """
        with self.reading(path) as file:
            if limit is not None and file.nbytes > limit:
                raise FormatError(
                    f"{path} has {file.nbytes} bytes, more than the {limit} that it may have",
                    hint="the file was not written by Holdfast",
                )
            data = bytearray(file.nbytes)
            file.read_into(0, memoryview(data))
            return bytes(data)

    @contextlib.contextmanager
    def reading(self, path: str) -> Iterator[OpenFile]:
        """Opens a file for reading at offsets; a symbolic link is refused.

        Raises:
            FileNotFoundError: It is not there.
            FormatError: It is not a regular file.
            IntegrityError: The medium could not read it.
            HoldfastError: It cannot be opened now, and may be sound: no permission, too many
                open files.
        """
        # Without blocking: a pipe would wait for a writer.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            fd = os.open(self.absolute(path), flags)
        except OSError as error:
            raise opening_error(error, path) from error
        try:
            yield OpenFile(fd, path, require_regular(fd, path))
        finally:
            os.close(fd)

    def size(self, path: str) -> int | None:
        """Returns a file's length in bytes, or None where it is not there."""
        status = self._status(self.absolute(path))
        return None if status is None else status.st_size

    def link_count(self, path: str) -> int:
        """Returns how many names a file has; 0 where it is not there."""
        status = self._status(self.absolute(path))
        return 0 if status is None else status.st_nlink

    def modified_ns(self, path: str) -> int:
        """Returns when a folder's names last changed, in ns; 0 where it is not there."""
        status = self._status(self._paths.of_folder(path))
        return 0 if status is None else status.st_mtime_ns

    def _status(self, absolute: str) -> os.stat_result | None:
        try:
            return os.lstat(absolute)
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise
            return None

    def names(self, path: str) -> list[str]:
        """Returns the names in a folder, sorted; none where it is not there."""
        with self.listing(path) as entries:
            return sorted(entry.name for entry in entries)

    def folders(self, path: str) -> list[str]:
        """Returns the names of the folders in a folder, sorted; symbolic links left out."""
        with self.listing(path) as entries:
            return sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))

    @contextlib.contextmanager
    def listing(self, path: str) -> Iterator[Iterator[os.DirEntry[str]]]:
        """Gives the entries of a folder, in no order; none where it is not there."""
        with contextlib.ExitStack() as stack:
            entries: Iterator[os.DirEntry[str]] = iter(())
            with contextlib.suppress(FileNotFoundError), listed(path):
                entries = stack.enter_context(os.scandir(self._paths.of_folder(path)))
            yield entries

    def free_nbytes(self) -> int:
        """Returns the bytes that an ordinary user can still write."""
        status = os.statvfs(self.root)
        return status.f_bavail * status.f_frsize

    def lock(self, path: str) -> FileLock:
        """Returns the lock of that name (not taken yet)."""
        return FileLock(Path(self.absolute(path)))

    def _temporary(self, target: str) -> str:
        folder, name = os.path.split(target)
        # Random: in a container, a process has the number of the one before it that died.
        return os.path.join(folder, f"{TEMPORARY_PREFIX}{name}-{secrets.token_hex(8)}")

    @contextlib.contextmanager
    def _translated(self, doing: str, needed: int) -> Iterator[None]:
        try:
            yield
        except FileExistsError:
            raise
        except OSError as error:
            raise self._error(doing, error, needed) from error

    def _error(self, doing: str, error: OSError, needed: int) -> SaveError | StorageFullError:
        return failure_of(error, doing, needed=needed, free=self.free_nbytes, root=self.root)
