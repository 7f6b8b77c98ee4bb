"""Damage to the files of a store: other bytes in a file, or files that are not where they were."""

from __future__ import annotations

import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from holdfast.engine import names
from holdfast.testing.finished import Finished

#: Up to here a file is cut and zeroed at each sector, from here on at each page.
_SMALL_NBYTES: Final = 4096
_SECTOR: Final = 512
_PAGE: Final = 4096
#: Between its ends, a tensor is flipped at every so many bytes.
_TENSOR_STEP: Final = 61


@dataclass(frozen=True, slots=True)
class Patch:
    """Other bytes in one file; every name of the file sees them.

    Attributes:
        kind: What reports count it as.
        path: The file, relative to the store.
        offset: Where the bytes go.
        data: The bytes.
        nbytes: The file's length afterwards.
    """

    kind: str
    path: str
    offset: int
    data: bytes
    nbytes: int

    def __str__(self) -> str:
        return f"{self.kind} of {self.path} at byte {self.offset}"

    @property
    def cuts_journal(self) -> bool:
        """Whether it is more than a bit of a journal: then the opening tells what was lost."""
        return self.path.endswith(names.JOURNAL) and not self.kind.startswith("a flipped bit")

    def apply(self, root: Path) -> None:
        """Damages the file in a store."""
        _write(root / self.path, self.offset, self.data, self.nbytes)

    def undo(self, root: Path, original: bytes) -> None:
        """Makes the file what it was."""
        begin = min(self.offset, len(original))
        end = len(original) if self.nbytes != len(original) else begin + len(self.data)
        _write(root / self.path, begin, original[begin:end], len(original))


@dataclass(frozen=True, slots=True)
class Misplacement:
    """Files of a store that are not where they were.

    Attributes:
        kind: What reports count it as.
        what: What was done, as a sentence.
        act: Does it, given the store's folder.
        damaged: Ids of the checkpoints that are damaged by it.
        journals: Runs whose journal is damaged by it.
    """

    kind: str
    what: str
    act: Callable[[Path], None]
    damaged: frozenset[str] = frozenset()
    journals: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}"

    def apply(self, root: Path) -> None:
        """Does it to a store."""
        self.act(root)


def flips_in_every_region(files: Mapping[str, bytes]) -> Iterator[Patch]:
    """Yields a flipped bit for each byte of all files, but for the inside of tensors.

    Tensors have theirs at their first and last byte and at every 61st byte between.

    Args:
        files: Path to content.
    """
    for path, content in files.items():
        for region, offset in _places(path, content):
            # Not the same bit of every byte; the lowest one of a digit gives another digit.
            yield _flip(path, content, offset, (offset * 5 + len(content)) % 8, region)


def random_flips(files: Mapping[str, bytes], *, count: int, seed: int) -> Iterator[Patch]:
    """Yields single flipped bits at random, each bit of all files being as likely as any other.

    Args:
        files: Path to content.
        count: How many.
        seed: Of the choice.
    """
    chosen = random.Random(seed)  # noqa: S311 - a choice of places, no secret
    paths, sizes = list(files), [len(content) for content in files.values()]
    for path in chosen.choices(paths, weights=sizes, k=count):
        content = files[path]
        yield _flip(path, content, chosen.randrange(len(content)), chosen.randrange(8), "a file")


def other_lengths_and_blocks(files: Mapping[str, bytes]) -> Iterator[Patch]:
    """Yields cuts at each block, extensions, zeroed blocks, a zeroed file and an empty one.

    Args:
        files: Path to content.
    """
    for path, content in files.items():
        size = len(content)
        block = _SECTOR if size <= _SMALL_NBYTES or path.endswith(names.JOURNAL) else _PAGE
        ends = {*range(0, size, block), size - 1}
        for end in sorted(ends):
            yield Patch("a cut", path, end, b"", end)
        for more in (b"\0", b" ", b"\n", b"\0" * block):
            yield Patch("an extension", path, size, more, size + len(more))
        for begin in range(0, size, block):
            zeros = bytes(min(block, size - begin))
            if content[begin : begin + block] != zeros:
                yield Patch("a zeroed block", path, begin, zeros, size)
        yield Patch("a zeroed file", path, 0, bytes(size), size)


def misplacements(store: Finished) -> Iterator[Misplacement]:
    """Yields swapped, duplicated, missing and older files, and folders in the place of files."""
    files = store.files()
    yield from _missing(store, files)
    yield from _exchanged(store, files)
    for path, older in store.older.items():
        # What it names besides is gone, so it reads as damaged.
        yield Misplacement(
            "an older manifest",
            f"{path} is of an earlier generation",
            partial(_replace, path=path, content=older),
            frozenset({path.split("/")[2]}),
        )
    for second in sorted(store.root.glob("shards/*/*")):
        name = str(second.relative_to(store.root))
        # A second name is for finding a shard; no fact is lost with it.
        yield Misplacement("a missing second name", name, partial(_gone, path=name))


# -- places ------------------------------------------------------------------------------------


def _places(path: str, content: bytes) -> Iterator[tuple[str, int]]:
    if not path.endswith(".safetensors"):
        region = "an index" if path.endswith(".index.json") else f"a {path.rpartition('/')[2]}"
        yield from ((region, offset) for offset in range(len(content)))
        return
    start = 8 + int.from_bytes(content[:8], "little")
    text = len(content[8:start].rstrip())
    for offset in range(start):
        region = "a length" if offset < 8 else "a header" if offset < 8 + text else "padding"
        yield region, offset
    tensors = {start, len(content) - 1, *range(start, len(content), _TENSOR_STEP)}
    yield from (("a tensor", offset) for offset in sorted(tensors) if offset < len(content))


def _flip(path: str, content: bytes, offset: int, bit: int, region: str) -> Patch:
    data = bytes([content[offset] ^ 1 << bit])
    return Patch(f"a flipped bit in {region}", path, offset, data, len(content))


# -- files in wrong places ---------------------------------------------------------------------


def _missing(store: Finished, files: list[str]) -> Iterator[Misplacement]:
    for path in files:
        damaged, journals = _under_its_name(store, path)
        for kind, act in (("a missing file", _gone), ("a folder in the place of a file", _folder)):
            yield Misplacement(kind, path, partial(act, path=path), damaged, journals)


def _exchanged(store: Finished, files: list[str]) -> Iterator[Misplacement]:
    contents = {path: (store.root / path).read_bytes() for path in files}
    for one, other in itertools.combinations(files, 2):
        if not _alike(one, other) or contents[one] == contents[other]:
            continue
        if one.endswith(".safetensors") and len(contents[one]) != len(contents[other]):
            continue
        (damaged, cut), (also, also_cut) = (
            _under_its_name(store, one),
            _under_its_name(store, other),
        )
        yield Misplacement(
            "two files swapped",
            f"{one} and {other}",
            partial(_swap, one=one, other=other),
            damaged | also,
            cut | also_cut,
        )
        yield Misplacement(
            "a file over another",
            f"{one} over {other}",
            partial(_copy, one=one, other=other),
            also,
            also_cut,
        )


def _alike(one: str, other: str) -> bool:
    same = one.rpartition(".")[2] == other.rpartition(".")[2]
    return same and names.STORE_FILE not in (one, other)


def _under_its_name(store: Finished, path: str) -> tuple[frozenset[str], frozenset[str]]:
    """Returns the checkpoint and the run that miss a file when it is not under its name.

    Other checkpoints that hold the same shard have names of their own for it.
    """
    parts = path.split("/")
    if len(parts) == 4:
        return frozenset({parts[2]}), frozenset()
    return frozenset(), frozenset({names.run_of_folder(parts[1])} if len(parts) == 3 else ())


def _gone(root: Path, path: str) -> None:
    (root / path).unlink()


def _folder(root: Path, path: str) -> None:
    (root / path).unlink()
    (root / path).mkdir()


def _replace(root: Path, path: str, content: bytes) -> None:
    # Under this one name: the other names of a shard keep what they are.
    (root / path).unlink()
    (root / path).write_bytes(content)


def _copy(root: Path, one: str, other: str) -> None:
    _replace(root, other, (root / one).read_bytes())


def _swap(root: Path, one: str, other: str) -> None:
    aside = root / "aside"
    shutil.move(root / one, aside)
    shutil.move(root / other, root / one)
    shutil.move(aside, root / other)


def _write(path: Path, offset: int, data: bytes, nbytes: int) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.ftruncate(fd, nbytes)
        os.pwrite(fd, data, offset)
    finally:
        os.close(fd)
