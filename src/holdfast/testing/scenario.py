"""What is disturbed by a sweep, and what must hold afterwards whatever happened."""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from holdfast.checkpoint import Checkpoint
from holdfast.lifecycle.verification import Verification
from holdfast.mirroredplace import open_mirrored
from holdfast.storage import Posix
from holdfast.store import Store

Promise = Callable[[str], None]

#: What a verification says of a journal that is shorter than one of its manifests counts.
_RELIED_ON: Final = "a checkpoint relies on"


class ViolationError(Exception):
    """Something that was promised does not hold."""


class Scenario(ABC):
    """A piece of work on a store.

    Attributes:
        name: What reports call it.
        harsh: Whether what was never synced may have come to the medium in any order, as no common
            filesystem does it. Then a shard may be left that no checkpoint holds (`doctor` removes
            it), and lines of the journal that nothing relied on may be gone (`verify` tells).
    """

    name: str
    harsh: bool = False

    def prepare(self, root: Path) -> Sequence[str]:
        """Makes the store that the work starts from; returns what is promised by then."""
        del root
        return ()

    @abstractmethod
    def act(self, root: Path, posix: Posix, promise: Promise) -> None:
        """Does the work, which may fail or end at any call.

        Args:
            root: The store's folder.
            posix: The system calls to use.
            promise: Told each thing at the moment from which it must survive.
        """

    @abstractmethod
    def check(self, root: Path, promised: Sequence[str]) -> None:
        """Opens the store as the next process would, and looks at everything.

        Raises:
            ViolationError: Something that was promised does not hold.
        """


class Weights:
    """A live object whose state is replaced as a whole."""

    def __init__(self, state: dict[str, np.ndarray]) -> None:
        self.state = state

    def state_dict(self) -> dict[str, np.ndarray]:
        """Returns its arrays."""
        return self.state

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Takes over arrays."""
        self.state = state


def opened(root: Path, posix: Posix, *, mirrors: Sequence[Path] = ()) -> Store:
    """Opens a store whose every change, and that of its mirrors, goes through these calls."""
    place = open_mirrored(root, mode="a", catalog=None, mirrors=mirrors, posix=posix)
    return Store(place)


def require(holds: object, sentence: str) -> None:
    """Raises `ViolationError` with a sentence unless something holds."""
    if not holds:
        raise ViolationError(sentence)


def same_arrays(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    """Returns whether two states are the same to the bit."""
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and one[name].tobytes() == other[name].tobytes()
        for name in one
    )


def on_disk(root: Path) -> set[str]:
    """Returns the ids of the checkpoints whose manifest is there."""
    return {path.parent.name for path in root.glob("runs/*/*/manifest.json")}


def require_catalog_and_files_agree(root: Path, found: Iterable[Checkpoint]) -> None:
    """Raises `ViolationError` where the catalog lists other checkpoints than there are."""
    listed, there = {checkpoint.id for checkpoint in found}, on_disk(root)
    require(
        listed == there,
        f"the catalog and the files differ about {', '.join(sorted(listed ^ there))}",
    )


def require_sound(found: Verification, *, harsh: bool) -> None:
    """Raises `ViolationError` unless a verification found nothing wrong."""
    sound = not found.damaged if harsh else found.ok
    require(sound, f"verification: {found.as_dict()}")
    # Lines that nothing relied on may be gone; those that a manifest counts never are.
    cut = [why for wrong in found.journals.values() for why in wrong if _RELIED_ON in why]
    require(not cut, "; ".join(cut))


def require_tidy(root: Path, run: str, *, harsh: bool = False) -> None:
    """Raises `ViolationError` where something is left that nobody needs."""
    folder = root / "runs" / run.replace("/", "+")
    left = list(folder.rglob(".tmp-*"))
    left += [p for p in folder.iterdir() if p.is_dir() and not (p / "manifest.json").exists()]
    if not harsh:
        left += [p for p in (root / "shards").rglob("*.safetensors") if p.stat().st_nlink == 1]
    names = ", ".join(str(path.relative_to(root)) for path in left)
    require(not left, f"left behind: {names}")


def copy_store(source: Path, target: Path) -> None:
    """Copies a folder with everything in it; files with several names keep them."""
    known: dict[tuple[int, int], str] = {}

    def copy(one: str, other: str) -> str:
        status = os.lstat(one)
        first = known.setdefault((status.st_dev, status.st_ino), other)
        if first == other:
            return str(shutil.copy2(one, other, follow_symlinks=False))
        os.link(first, other)
        return other

    shutil.copytree(source, target, copy_function=copy)
