"""Looking after a store as scenarios: clean-ups and deletions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import holdfast
from holdfast import keep
from holdfast.checkpoint import Checkpoint
from holdfast.engine.names import JOURNAL
from holdfast.lifecycle.findings import Finding
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
from holdfast.testing.scenario import (
    Promise,
    Scenario,
    opened,
    require,
    require_catalog_and_files_agree,
    require_sound,
    require_tidy,
)

ONE: Final = "study/one"
TWO: Final = "study/two"
OTHER: Final = "other"
#: Said when the work returned: from then on nothing of it may be undone.
DONE: Final = "done"


class Upkeep(Scenario):
    """Work on a store whose runs nobody writes; what is done half-way is done by doing it again."""

    def act(self, root: Path, posix: Posix, promise: Promise) -> None:
        """Does the work; promises that it is done when it returned."""
        with opened(root, posix) as store:
            self.do(store, posix)
            promise(DONE)

    @abstractmethod
    def do(self, store: Store, posix: Posix) -> None:
        """Does the work, or what is left of it."""

    def check(self, root: Path, promised: Sequence[str]) -> None:
        """Looks at everything, does the work again, to its end, and looks again."""
        lines = lines_among(promised)
        with holdfast.open(root) as store:
            self.look(store, lines)
            if DONE in promised:
                self.check_done(store, lines)
        require_files_say_the_same(root)
        with holdfast.open(root) as store:
            self.do(store, Posix())
        with holdfast.open(root) as store:
            self.look(store, lines)
            self.check_done(store, lines)
            require_sound(store.verify(), harsh=self.harsh)
            for run in store.runs():
                require_tidy(root, run.name, harsh=self.harsh)
            # Where all may be lost in any order, there may be something for `doctor` to do.
            left = [f for f in store.repair(apply=self.harsh).left if not self._is_expected(f)]
            require(not left, f"left to repair: {left}")
        require_files_say_the_same(root)

    def _is_expected(self, finding: Finding) -> bool:
        # Left by a process that died while it tried out the place.
        probing = finding.path.startswith(".tmp-probe-")
        # Lines that nothing relied on may be gone from the middle of a journal.
        lost = self.harsh and finding.path.endswith(JOURNAL) and "its digest" in finding.what
        return probing or lost

    def look(self, store: Store, lines: Sequence[Line]) -> None:
        """Raises `ViolationError` unless what there is loads, and what was promised is there."""
        found = store.checkpoints()
        require_catalog_and_files_agree(store.path, found)
        for checkpoint in found:
            self.check_loads(checkpoint)
        require_kept(store, lines)

    def check_loads(self, checkpoint: Checkpoint) -> None:
        """Raises `ViolationError` unless a checkpoint holds what was saved."""
        require_loads(checkpoint)

    def check_done(self, store: Store, lines: Sequence[Line]) -> None:
        """Raises `ViolationError` unless all that is there is what was promised to stay."""
        for checkpoint in store.checkpoints():
            wanted = [line for line in lines if line["id"] == checkpoint.id]
            require(wanted, f"{checkpoint.id} was to be deleted and is there")
            items = sorted(checkpoint.items)
            require(items == wanted[0]["items"], f"{checkpoint.id} still holds {items}")


class Pruning(Upkeep):
    """A clean-up of two runs that share shards, with some checkpoints pinned and some tagged."""

    name = "prune"
    policy = keep.best(2, "loss").items("model") | keep.latest(1) | keep.tagged()

    def prepare(self, root: Path) -> Sequence[str]:
        """Promises the checkpoints that the plan keeps, with the items that it leaves them."""
        with holdfast.open(root) as store:
            for run in (ONE, TWO):
                grow(store, run, LOSSES)
                saved = oldest_first(store, run)
                saved[0].pin()
                saved[3].tag("prod", "draft")
                saved[2].report(val_loss=0.5)
            plan = store.prune(policy=self.policy)
            return [line_of(info, items=plan.remaining.get(info.id)) for info in plan.kept]

    def do(self, store: Store, posix: Posix) -> None:
        """Prunes both runs."""
        del posix
        store.prune(policy=self.policy).apply()

    def check_done(self, store: Store, lines: Sequence[Line]) -> None:
        """Looks, besides, at why each checkpoint stays, went, or was thinned."""
        super().check_done(store, lines)
        for run in store.runs():
            decided = {(d.checkpoint_id, d.fate) for d in run.decisions()}
            saved = {i for i, fate in decided if fate == "saved"}
            there = {c.id: c for c in store.checkpoints(run.name)}
            untold = saved - there.keys() - {i for i, fate in decided if fate == "deleted"}
            untold |= {i for i, c in there.items() if c.thinned and (i, "thinned") not in decided}
            require(not untold, f"nothing says what became of {sorted(map(str, untold))}")


class Deleting(Upkeep):
    """A deletion of two runs, of which one has a pinned checkpoint; a third one stays."""

    name = "delete"

    def prepare(self, root: Path) -> Sequence[str]:
        """Promises the pinned checkpoint, and the run that is not meant."""
        with holdfast.open(root) as store:
            for run in (ONE, TWO, OTHER):
                grow(store, run, LOSSES[:3])
            pinned = oldest_first(store, TWO)[1]
            pinned.pin()
            return [line_of(c.info) for c in (pinned, *oldest_first(store, OTHER))]

    def do(self, store: Store, posix: Posix) -> None:
        """Deletes the runs."""
        del posix
        store.delete("study/*").apply()

    def check_done(self, store: Store, lines: Sequence[Line]) -> None:
        """Looks, besides, that nothing is left of the run that had nothing to keep."""
        super().check_done(store, lines)
        names = [run.name for run in store.runs()]
        require(names == [OTHER, TWO], f"the runs that are left: {names}")
        left = sorted(path.name for path in (store.path / "runs").iterdir())
        require(left == ["other", "study+two"], f"the folders that are left: {left}")
