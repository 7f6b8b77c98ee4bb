"""Shards read in full, each file once, however many checkpoints hold it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from holdfast.engine.filling import Progress
from holdfast.engine.manifest import Manifest, StoredShard
from holdfast.engine.scanning import Errors, Pace, errors_of, scan, shard_files
from holdfast.errors import FormatError, HoldfastError, IntegrityError
from holdfast.storage import Identity, LocalStorage, identity

#: A file's content as its names share it: which shard it should be, and which file it is.
_Key = tuple[str, Identity]


class ShardReader:
    """Reads shard files, and remembers what is wrong with each of them.

    Files are told apart by device, inode, length and time of modification: what was put in the
    place of a damaged file is read anew.

    Args:
        storage: The store's files.
        progress: Called with bytes as they are read.
        pace: As `scan`.

    Attributes:
        files: How many files were read.
        nbytes: Their length, each counted once.
    """

    def __init__(
        self, storage: LocalStorage, *, progress: Progress, pace: Pace | None = None
    ) -> None:
        self._storage = storage
        self._progress = progress
        self._pace = pace
        # What was sound needs no more than its key; damage is told by the path that was read.
        self._known: dict[_Key, tuple[str, Errors] | None] = {}
        self.files = 0
        self.nbytes = 0

    def read(self, manifests: Iterable[Manifest]) -> None:
        """Reads the shards of checkpoints, as many at once as are not known yet."""
        new: dict[_Key, tuple[str, StoredShard]] = {}
        for manifest in manifests:
            for path, shard in shard_files(manifest).items():
                key = self._key(path, shard)
                if key is not None and key not in self._known:
                    new.setdefault(key, (path, shard))
        self._read(new)

    def errors(self, manifest: Manifest) -> Iterator[HoldfastError]:
        """Yields what is wrong with a checkpoint, one error per file or tensor."""
        return errors_of(self._storage, manifest, self._of_shard)

    def damaged(self, path: str, shard: StoredShard) -> Errors:
        """Returns what is wrong with a shard's file as far as it was read; reads nothing."""
        key = self._key(path, shard)
        found = None if key is None else self._known.get(key)
        return () if found is None else _at(path, *found)

    @property
    def damaged_shards(self) -> set[str]:
        """Names of the shards of which a damaged file was read."""
        return {key[0] for key, found in self._known.items() if found is not None}

    def _of_shard(self, path: str, shard: StoredShard) -> Errors:
        key = self._key(path, shard)
        if key is None:
            return scan(self._storage, {path: shard}, progress=self._progress)[path]
        if key not in self._known:
            # Put there since the others were read, or its other name went away meanwhile.
            return self._read({key: (path, shard)})[path]
        found = self._known[key]
        return () if found is None else _at(path, *found)

    def _read(self, files: dict[_Key, tuple[str, StoredShard]]) -> dict[str, Errors]:
        every = scan(self._storage, dict(files.values()), progress=self._progress, pace=self._pace)
        for key, (path, shard) in files.items():
            errors = every[path]
            # What could not be opened, or lost this name since, says nothing of the other names.
            if errors and not (all(map(is_damage, errors)) and self._key(path, shard) == key):
                continue
            self._known[key] = (path, errors) if errors else None
            self.files += 1
            self.nbytes += key[1].nbytes
        return every

    def _key(self, path: str, shard: StoredShard) -> _Key | None:
        found = identity(self._storage, path)
        return None if found is None else (shard.shard, found)


def is_damage(error: HoldfastError) -> bool:
    """Returns whether an error speaks of bytes that are wrong, and not of a file kept shut."""
    return isinstance(error, (IntegrityError, FormatError))


def _at(path: str, read: str, errors: Errors) -> Errors:
    """Returns errors of a file as those of another name of it."""
    return errors if path == read else tuple(_renamed(error, read, path) for error in errors)


def _renamed(error: HoldfastError, before: str, after: str) -> HoldfastError:
    message = error.message.replace(before, after)
    if isinstance(error, IntegrityError):
        return IntegrityError(message, hint=error.hint, path=after, tensor=error.tensor)
    return type(error)(message, hint=error.hint)
