"""Flipped bits in a store that has a mirror: all are found, all are healed, to the bit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import holdfast
from holdfast.engine import names
from holdfast.engine.journal import Journal
from holdfast.storage import LocalStorage
from holdfast.testing.damage import random_flips
from holdfast.testing.disturbing import judged
from holdfast.testing.finished import Finished, finish
from holdfast.testing.flips import SCENARIO, make_writable
from holdfast.testing.outcome import Outcome, Progress, Tally
from holdfast.testing.scenario import copy_store, require
from holdfast.testing.soundness import follow

#: So many bits flip before anybody looks.
_AT_ONCE: Final = 60


def healings(
    folder: Path,
    *,
    count: int = 10_000,
    seed: int = 0,
    progress: Progress = lambda a, b: None,
) -> Outcome:
    """Flips bits at random, some dozens at once, verifies, and repairs from a mirror.

    After each round the store must be what it was, to the bit, but for lines that its journals
    got meanwhile.

    Args:
        folder: An empty folder, on the medium that is to be proven.
        count: How many bits.
        seed: Of the choice.
        progress: See `Tally`.
    """
    store, mirror, work = finish(folder / "store"), folder / "mirror", folder / "work"
    copy_store(store.root, work)
    with _opened(work, mirror) as opened:
        opened.mirror()
    whole = {path: (work / path).read_bytes() for path in store.files()}
    tally = Tally("flip healed from a mirror", SCENARIO, progress)
    tally.total = count
    for begin in range(0, count, _AT_ONCE):
        make_writable(work)
        now = {path: (work / path).read_bytes() for path in whole}
        some = random_flips(now, count=min(_AT_ONCE, count - begin), seed=seed + begin)
        # One per byte: no two undo each other.
        patches = list({(patch.path, patch.offset): patch for patch in some}.values())
        owners = [_owners(store, work, patch.path) for patch in patches]
        for patch in patches:
            patch.apply(work)
        round_of = partial(_require_healed, store, work, mirror, whole=whole, owners=owners)
        wrong = judged(round_of)
        for patch in patches:
            tally.add(patch.kind, wrong and f"flips {begin} to {begin + len(patches)}: {wrong}")
        if wrong:
            # What is left damaged would be counted again in each later round.
            break
    return tally.outcome()


def _opened(root: Path, mirror: Path) -> Any:
    return holdfast.open(root, mirrors=[str(mirror)])


def _owners(finished: Finished, work: Path, path: str) -> tuple[set[str], set[str]]:
    """Returns the checkpoints that share a file now, healed ones having files of their own."""
    inode = (work / path).stat().st_ino
    ids = {
        checkpoint_id
        for checkpoint_id, held in finished.held.items()
        for name in held.files
        if _inode(work / names.folder_of_checkpoint(held.run, checkpoint_id) / name) == inode
    }
    return ids, set(finished.owners(path)[1])


def _inode(path: Path) -> int:
    return path.stat().st_ino if path.exists() else -1


def _require_healed(
    finished: Finished,
    work: Path,
    mirror: Path,
    *,
    whole: Mapping[str, bytes],
    owners: Iterable[tuple[set[str], set[str]]],
) -> None:
    damaged = {checkpoint_id for ids, _ in owners for checkpoint_id in ids}
    journals = {run for _, runs in owners for run in runs}
    with _opened(work, mirror) as store:
        require(store.id == finished.store_id, "the store has another id than it had")
        found = store.verify()
        require(
            set(found.damaged) == damaged and set(found.journals) >= journals,
            f"found {sorted(found.damaged)} and {sorted(found.journals)} damaged instead of "
            f"{sorted(damaged)} and {sorted(journals)}",
        )
        left = store.repair(apply=True).left
        require(not left, f"left: {[(one.path, one.what) for one in left][:4]}")
        _require_whole(finished, store, whole)
        # What was noted meanwhile is in no mirror yet; a save would bring it there.
        store.mirror()


def _require_whole(finished: Finished, store: Any, whole: Mapping[str, bytes]) -> None:
    verified = store.verify()
    require(verified.ok, f"after the repair: {verified.as_dict()}")
    for path, content in whole.items():
        if not path.endswith(names.JOURNAL):
            require((store.path / path).read_bytes() == content, f"{path} is not what it was")
    for run, lines in finished.journals.items():
        reading = Journal(LocalStorage(store.path), finished.journal_of(run)).read()
        require(not reading.damage, f"the journal of {run} is damaged after the repair")
        old = [record for record in reading.records if record in lines]
        require(follow(lines, old), f"the journal of {run} lacks lines after the repair")
