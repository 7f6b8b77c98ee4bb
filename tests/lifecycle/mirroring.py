"""What the tests of mirrors share: stores with a mirror, and passes over it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import holdfast
from holdfast.engine import names, reader, scanning
from holdfast.lifecycle.mirroredrun import MirroredRun
from holdfast.lifecycle.mirrors import Mirror, make_ready
from holdfast.storage import LocalStorage, Posix


def mirror_of(root: Path, posix: Posix | None = None) -> Mirror:
    return Mirror(LocalStorage(root, posix=posix))


def pass_over(store: holdfast.Store, mirror: Mirror, run: str = "a"):
    """Brings one run of a mirror up to date, as a run's own thread does."""
    make_ready(store._place, mirror, anew=False)
    return MirroredRun(store._place, mirror, run).update()


def copy_of(folder: Path, target: Path) -> Path:
    """Copies a store with its hard links."""
    subprocess.run(["cp", "-a", str(folder), str(target)], check=True)
    return target


def files_of(root: Path) -> dict[str, tuple[bytes, int]]:
    """Every file of a store but locks, notes and catalogs: its bytes and its number of names."""
    left_out = ("catalog.sqlite3", names.LOCK, names.MIRRORS)
    return {
        str(path.relative_to(root)): (path.read_bytes(), path.stat().st_nlink)
        for path in root.rglob("*")
        if path.is_file() and not path.name.startswith(left_out)
    }


def damage_of(root: Path, run: str = "a") -> dict[str, list[str]]:
    """What is wrong with each checkpoint that exists in a store, read in full."""
    storage = LocalStorage(root)
    found = {}
    for checkpoint_id in storage.folders(names.folder_of_run(run)):
        folder = names.folder_of_checkpoint(run, checkpoint_id)
        if storage.size(f"{folder}/{names.MANIFEST}") is not None:
            manifest = reader.read_manifest(storage, run, checkpoint_id)
            errors = scanning.verify(storage, manifest, progress=lambda _: None)
            found[checkpoint_id] = [str(error) for error in errors]
    return found


def journal_of(root: Path, run: str = "a") -> Path:
    return root / names.folder_of_run(run) / names.JOURNAL


def steps_in(root: Path, run: str = "a") -> list[int]:
    """The steps of the checkpoints that a store holds, opened as any store is."""
    with holdfast.open(root, mode="r") as store:
        return [c.step for c in store.checkpoints(run, order_by="step")]
