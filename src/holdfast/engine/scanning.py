"""Shard files read in full, many at a time, each for one answer: what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Final

from holdfast.engine.filling import Located, Progress, Wanted, fill
from holdfast.engine.manifest import Manifest, StoredShard
from holdfast.engine.reader import header_of, index_error, missing
from holdfast.engine.shardfile import Header
from holdfast.errors import HoldfastError, IntegrityError
from holdfast.storage import LocalStorage
from holdfast.storage.openfiles import OpenFile, PacedFile

#: Files that are open at a time: far below what a process may have, and enough to keep all
#: threads busy where checkpoints are small.
MAX_OPEN: Final = 128

#: Hears how many bytes are about to be read, and holds the reading up until they may be.
Pace = Callable[[int], None]
Errors = tuple[HoldfastError, ...]


def scan(
    storage: LocalStorage,
    files: Mapping[str, StoredShard],
    *,
    progress: Progress,
    pace: Pace | None = None,
) -> dict[str, Errors]:
    """Reads shard files in full and compares every digest.

    Args:
        storage: The store's files.
        files: Path of a file, relative to the store, to the shard that it should be.
        progress: Called with bytes as they are read, from the calling thread; a sound file comes
            to its length.
        pace: Bounds the rate. The calling thread reads alone then, and what was not in the page
            cache before does not stay there.

    Returns:
        Each path to what is wrong with the file, in the order of its bytes; nothing when sound.
    """
    found: dict[str, Errors] = {}
    for paths in _batched(files):
        found.update(_scan(storage, {path: files[path] for path in paths}, progress, pace))
    return found


def verify(
    storage: LocalStorage, manifest: Manifest, *, progress: Progress
) -> Iterator[HoldfastError]:
    """Reads all of a checkpoint and yields what is wrong with it, one error per file or tensor.

    Args:
        storage: The store's files.
        manifest: The checkpoint.
        progress: As `scan`.
    """
    found = scan(storage, shard_files(manifest), progress=progress)
    yield from errors_of(storage, manifest, lambda path, shard: found[path])


def shard_files(manifest: Manifest) -> dict[str, StoredShard]:
    """Returns the paths of a checkpoint's shard files, and what each should be."""
    return {
        f"{manifest.folder}/{shard.file}": shard
        for item in manifest.items.values()
        for shard in item.shards
    }


def errors_of(
    storage: LocalStorage, manifest: Manifest, of_shard: Callable[[str, StoredShard], Errors]
) -> Iterator[HoldfastError]:
    """Yields what is wrong with a checkpoint's files, in the order of its manifest.

    Args:
        storage: The store's files.
        manifest: The checkpoint.
        of_shard: Tells what is wrong with a shard's file.
    """
    for item in manifest.items.values():
        for shard in item.shards:
            yield from of_shard(f"{manifest.folder}/{shard.file}", shard)
        if item.index is not None:
            wrong = index_error(storage, f"{manifest.folder}/{item.index.file}", item.index)
            if wrong is not None:
                yield wrong


def _batched(paths: Iterable[str]) -> Iterator[Sequence[str]]:
    every = list(paths)
    for begin in range(0, len(every), MAX_OPEN):
        yield every[begin : begin + MAX_OPEN]


def _scan(
    storage: LocalStorage, files: Mapping[str, StoredShard], progress: Progress, pace: Pace | None
) -> dict[str, Errors]:
    # By place, so that a file's errors come in the order of its bytes; the header's come first.
    found: dict[str, dict[tuple[int, str], HoldfastError]] = {path: {} for path in files}
    with ExitStack() as stack:
        wanted: list[Wanted] = []
        for path, shard in files.items():
            try:
                file = stack.enter_context(storage.reading(path))
                header = header_of(file if pace is None else PacedFile(file, pace), shard)
            except FileNotFoundError:
                found[path][-1, ""] = missing(path)
                continue
            except HoldfastError as error:
                found[path][-1, ""] = error
                continue
            progress(header.data_start)
            wanted += _all_of(
                header, file if pace is None else PacedFile(file, _told(pace, progress))
            )

        def failed(place: Located, error: IntegrityError) -> None:
            found[place.path][place.offset, place.entry.name] = error

        if pace is None:
            fill(wanted, failed=failed, progress=progress)
        else:
            fill(wanted, failed=failed, threads=1)
    return {path: tuple(errors[at] for at in sorted(errors)) for path, errors in found.items()}


def _all_of(header: Header, file: OpenFile) -> list[Wanted]:
    return [
        Wanted(Located(file.path, header.data_start + entry.begin, entry), file, None)
        for entry in header.tensors
    ]


def _told(pace: Pace, progress: Progress) -> Pace:
    """Returns a pace that also tells of each piece: at a low rate, one tensor takes minutes."""

    def step(nbytes: int) -> None:
        pace(nbytes)
        progress(nbytes)

    return step
