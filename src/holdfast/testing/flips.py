"""Damage done to the files of a finished store, one by one: all of it is found, none is loaded."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

from holdfast.testing.damage import (
    Misplacement,
    Patch,
    flips_in_every_region,
    misplacements,
    other_lengths_and_blocks,
    random_flips,
)
from holdfast.testing.disturbing import judged
from holdfast.testing.finished import Finished, finish
from holdfast.testing.outcome import Outcome, Progress, Tally
from holdfast.testing.scenario import copy_store
from holdfast.testing.soundness import Glance, require_found

SCENARIO: Final = "a finished store"
#: Every so many states the store is opened, verified, loaded and gone on with as a person would;
#: at the others, what is damaged is verified and loaded.
_THOROUGHLY: Final = 50


def regions(folder: Path, *, stride: int = 1, progress: Progress = lambda a, b: None) -> Outcome:
    """Flips one bit of every byte of every file, and of the inside of tensors at every 61st.

    Args:
        folder: An empty folder, on the medium that is to be proven.
        stride: Every how many bytes.
        progress: See `Tally`.
    """
    bench = _Bench(folder)
    patches = list(islice(flips_in_every_region(bench.files), 0, None, stride))
    return bench.patched("flip in each region", patches, progress)


def flips(
    folder: Path,
    *,
    count: int = 10_000,
    seed: int = 0,
    progress: Progress = lambda a, b: None,
) -> Outcome:
    """Flips single bits at random, over all bytes of all files.

    Args:
        folder: An empty folder, on the medium that is to be proven.
        count: How many, one at a time.
        seed: Of the choice.
        progress: See `Tally`.
    """
    bench = _Bench(folder)
    patches = list(random_flips(bench.files, count=count, seed=seed))
    return bench.patched("random flip", patches, progress)


def lengths(folder: Path, *, stride: int = 1, progress: Progress = lambda a, b: None) -> Outcome:
    """Cuts every file at each block, extends it, and zeroes its blocks.

    Arguments as `regions`.
    """
    bench = _Bench(folder)
    patches = list(islice(other_lengths_and_blocks(bench.files), 0, None, stride))
    return bench.patched("length or block", patches, progress)


def exchanges(folder: Path, *, stride: int = 1, progress: Progress = lambda a, b: None) -> Outcome:
    """Swaps, duplicates, removes and ages files, and puts folders in their place.

    Arguments as `regions`.
    """
    bench = _Bench(folder)
    tally = Tally("files in wrong places", SCENARIO, progress)
    moves = list(islice(misplacements(bench.store), 0, None, stride))
    tally.total = len(moves)
    for move in moves:
        tally.add(move.kind, bench.thoroughly(move, move.damaged, move.journals))
    return tally.outcome()


class _Bench:
    """A finished store, and a copy of it that is damaged again and again."""

    def __init__(self, folder: Path) -> None:
        self.store: Finished = finish(folder / "store")
        self.files: Mapping[str, bytes] = {
            path: (self.store.root / path).read_bytes() for path in self.store.files()
        }
        self._work = folder / "work"
        self._whole = folder / "whole"

    def patched(self, sweep: str, patches: Iterable[Patch], progress: Progress) -> Outcome:
        """Applies patches one at a time, and looks whether each is found."""
        tally = Tally(sweep, SCENARIO, progress)
        patches = list(patches)
        tally.total = len(patches)
        _fresh(self.store.root, self._work)
        with Glance(self.store, self._work) as glance:
            for number, patch in enumerate(patches):
                wrong, quickly = "", not patch.cuts_journal
                if quickly:
                    patch.apply(self._work)
                    wrong = judged(partial(glance.require_found, patch.path))
                    patch.undo(self._work, self.files[patch.path])
                if not wrong and (number % _THOROUGHLY == 0 or not quickly):
                    wrong = self.thoroughly(patch, *self.store.owners(patch.path))
                tally.add(patch.kind, wrong and f"{patch}: {wrong}")
        return tally.outcome()

    def thoroughly(
        self, damage: Patch | Misplacement, damaged: frozenset[str], journals: frozenset[str]
    ) -> str:
        """Damages a fresh copy and opens, verifies, loads and resumes; returns what is wrong."""
        _fresh(self.store.root, self._whole)
        damage.apply(self._whole)
        wrong = judged(partial(require_found, self.store, self._whole, damaged, journals))
        return wrong and f"{damage}: {wrong}"


def _fresh(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    copy_store(source, target)
    make_writable(target)


def make_writable(root: Path) -> None:
    """Lets every file of a store be written to: damage does not ask for permission."""
    for path in root.rglob("*"):
        if path.is_file():
            path.chmod(0o644)
