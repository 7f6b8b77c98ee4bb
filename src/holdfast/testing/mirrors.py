"""A store and its mirror as scenarios: bringing the mirror up to date, and healing from it.

The scenario's folder holds both, as ``store`` and ``mirror``.
"""

from __future__ import annotations

import shutil
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from blake3 import blake3

import holdfast
from holdfast import keep
from holdfast.engine import names
from holdfast.engine.carriedlines import carried
from holdfast.errors import HoldfastError
from holdfast.storage import Posix
from holdfast.store import Store
from holdfast.testing.facts import (
    LOSSES,
    Line,
    grow,
    line_of,
    lines_among,
    oldest_first,
    require_files_say_the_same,
    require_kept,
    require_loads,
)
from holdfast.testing.scenario import Promise, Scenario, opened, require, require_sound
from holdfast.testing.upkeep import DONE, ONE, OTHER, TWO

STORE: Final = "store"
MIRROR: Final = "mirror"
_NEW: Final = "new"
_UNTOUCHED: Final = "untouched "
_HELD: Final = "held "
#: What each place has for itself.
_ITS_OWN: Final = (
    "catalog.sqlite3",
    names.LOCK,
    names.MIRRORS,
    f".tmp-{names.MIRRORS}",
    ".tmp-probe-",
)


class _TwoPlaces(Scenario):
    """Work on a store and its mirror, of which it only reads one."""

    #: Which place the work must leave as it is.
    reads: str

    def act(self, root: Path, posix: Posix, promise: Promise) -> None:
        """Does the work; promises that it is done when it returned."""
        with opened(root / STORE, posix, mirrors=[root / MIRROR]) as store:
            self.do(store)
            promise(DONE)

    @abstractmethod
    def do(self, store: Store) -> None:
        """Does the work, or what is left of it."""

    def again(self, root: Path) -> None:
        """Does the work once more, as the next process does."""
        # A state that is looked at elsewhere than where it arose remembers a mirror of there.
        (root / STORE / names.MIRRORS).unlink(missing_ok=True)
        with holdfast.open(root / STORE, mirrors=[root / MIRROR]) as store:
            self.do(store)

    def ready(self, root: Path, lines: Sequence[str]) -> list[str]:
        """Returns what is promised at the start, by when the store has forgotten its mirror.

        What it remembers is where the mirror is; this one is going to be copied to other places.
        """
        (root / STORE / names.MIRRORS).unlink()
        return [*lines, _UNTOUCHED + _digest_of(root / self.reads)]

    def require_untouched(self, root: Path, promised: Sequence[str]) -> None:
        """Raises `ViolationError` where the place that is only read has changed."""
        was = [line for line in promised if line.startswith(_UNTOUCHED)]
        now = _UNTOUCHED + _digest_of(root / self.reads)
        require(was == [now], f"the files of the {self.reads} have changed")


class Mirroring(_TwoPlaces):
    """A mirror that is half up to date is brought up to date, while it can still be read."""

    name = "mirror"
    reads = STORE

    def prepare(self, root: Path) -> Sequence[str]:
        """Takes the store on since its mirror was current; promises what both have, and it all."""
        with holdfast.open(root / STORE) as store:
            for run in (ONE, TWO, OTHER):
                grow(store, run, LOSSES[:3])
            store.mirror(to=root / MIRROR)
            held = {checkpoint.id for checkpoint in store.checkpoints()}
            saved = oldest_first(store, ONE)
            saved[0].pin()
            saved[1].tag("prod")
            saved[2].report(val_loss=0.5)
            store.prune(TWO, policy=keep.best(1, "loss").items("model") | keep.latest(1)).apply()
            grow(store, _NEW, LOSSES[:2])
            store.verify()
            lines = [line_of(checkpoint.info) for checkpoint in store.checkpoints()]
            held &= {checkpoint.id for checkpoint in store.checkpoints()}
        # It is replaced as a whole, then.
        _flip(_journal_of(root / MIRROR, OTHER), at=40)
        return self.ready(root, [*lines, *(_HELD + i for i in sorted(held))])

    def do(self, store: Store) -> None:
        """Brings the mirror up to date."""
        (done,) = store.mirror()
        if not done.ok:
            raise HoldfastError("; ".join(done.problems), hint="see what each one says")

    def check(self, root: Path, promised: Sequence[str]) -> None:
        """Reads the mirror as a store, brings it up to date, and compares the two."""
        lines = lines_among(promised)
        self.require_untouched(root, promised)
        with holdfast.open(root / MIRROR, mode="r") as second:
            there = {checkpoint.id: checkpoint for checkpoint in second.checkpoints()}
            lost = {line.removeprefix(_HELD) for line in promised if line.startswith(_HELD)}
            lost -= there.keys()
            require(not lost, f"the mirror had {', '.join(sorted(lost))}, and has lost it")
            for checkpoint in there.values():
                require_loads(checkpoint)
            require_sound(second.verify(), harsh=True)
            if DONE in promised:
                require_kept(second, lines)
        self.again(root)
        self.require_untouched(root, promised)
        _require_same(root / STORE, root / MIRROR, harsh=self.harsh)
        self._check_current(root, lines)

    def _check_current(self, root: Path, lines: Sequence[Line]) -> None:
        with holdfast.open(root / MIRROR) as second:
            require_kept(second, lines)
            ids = {checkpoint.id for checkpoint in second.checkpoints()}
            strange = ids - {line["id"] for line in lines}
            require(not strange, f"the mirror holds {', '.join(sorted(strange))}, too")
            left = second.repair().left
            require(self.harsh or not left, f"left to repair in the mirror: {left}")
            require_sound(second.verify(), harsh=self.harsh)
        require_files_say_the_same(root / MIRROR)
        with holdfast.open(root / STORE, mirrors=[root / MIRROR]) as store:
            (done,) = store.mirror()
            require(done.ok and not done.nbytes, f"a pass over a current mirror did {done}")


class Healing(_TwoPlaces):
    """A store with damage and losses of every kind is repaired from a mirror that is sound."""

    name = "heal"
    reads = MIRROR

    def prepare(self, root: Path) -> Sequence[str]:
        """Damages the store since its mirror was current; promises every checkpoint."""
        with holdfast.open(root / STORE) as store:
            for run in (ONE, TWO, OTHER, _NEW):
                grow(store, run, LOSSES[:3])
            oldest_first(store, ONE)[0].pin()
            oldest_first(store, _NEW)[0].pin()
            oldest_first(store, TWO)[1].tag("prod")
            oldest_first(store, TWO)[2].report(val_loss=0.5)
            store.mirror(to=root / MIRROR)
            lines = [line_of(checkpoint.info) for checkpoint in store.checkpoints()]
            _damage(store)
            store.verify()
        return self.ready(root, lines)

    def do(self, store: Store) -> None:
        """Repairs all of it."""
        done = store.repair(apply=True)
        if not done.ok:
            raise HoldfastError(f"not set right: {done.left}", hint="see what each one says")

    def check(self, root: Path, promised: Sequence[str]) -> None:
        """Loads what can be loaded, repairs to the end, and looks at everything."""
        lines = lines_among(promised)
        self.require_untouched(root, promised)
        with holdfast.open(root / STORE) as store:
            for checkpoint in store.checkpoints():
                try:
                    require_loads(checkpoint)
                except (HoldfastError, FileNotFoundError) as error:
                    # Its damage is told of, and not healed yet.
                    require(DONE not in promised, f"healed, and not sound: {error}")
            if DONE in promised:
                require_kept(store, lines)
        self.again(root)
        self.require_untouched(root, promised)
        with holdfast.open(root / STORE, mirrors=[root / MIRROR]) as store:
            require_kept(store, lines)
            for checkpoint in store.checkpoints():
                require_loads(checkpoint)
            require_sound(store.verify(), harsh=self.harsh)
            left = store.repair().left
            require(not left, f"left to repair: {left}")
            require(len(store.checkpoints()) == len(lines), "there are more than there were")
        require_files_say_the_same(root / STORE)


def _damage(store: Store) -> None:
    """Damages or takes away something of everything that a mirror can give back."""
    first, second, third = oldest_first(store, ONE)
    # Every checkpoint of all runs holds the larger one.
    for path in sorted(first.path.glob("model-*.safetensors"), key=lambda p: p.stat().st_size):
        _flip(path, at=-5)
    _flip(second.path / names.MANIFEST, at=40)
    (third.path / names.MANIFEST).unlink()
    gone, indexed, _ = oldest_first(store, TWO)
    shutil.rmtree(gone.path)
    for path in indexed.path.glob("*.index.json"):
        path.unlink()
    journal = _journal_of(store.path, TWO)
    _flip(journal, at=journal.stat().st_size // 2)
    # The last line, which pins: nothing else is wrong in the folder of that run.
    _flip(_journal_of(store.path, _NEW), at=-30)
    shutil.rmtree(store.path / names.folder_of_run(OTHER))


def _journal_of(root: Path, run: str) -> Path:
    return root / names.folder_of_run(run) / names.JOURNAL


def _flip(path: Path, *, at: int) -> None:
    mode = path.stat().st_mode
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    path.chmod(mode)


def _require_same(store: Path, mirror: Path, *, harsh: bool) -> None:
    """Raises `ViolationError` unless a mirror is its store, byte for byte.

    Nothing rests on a shard's second name, and after a harsh power cut one may be gone or left.
    """
    ours, theirs = _files_of(store), _files_of(mirror)
    for path in sorted(ours.keys() | theirs.keys()):
        if harsh and path.startswith("shards/"):
            continue
        mine, other = ours.get(path), theirs.get(path)
        if mine is not None and path.endswith(names.JOURNAL):
            mine = carried(mine, path=path)
        require(mine == other, f"{path} is another one in the mirror, or in one place alone")


def _digest_of(root: Path) -> str:
    digest = blake3()
    for path, content in sorted(_files_of(root).items()):
        digest.update(f"{path}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _files_of(root: Path) -> Mapping[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.name.startswith(_ITS_OWN)
    }
