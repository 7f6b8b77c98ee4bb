"""The row of the training loop: how much slower it is for a save every so many steps."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

import holdfast
from bench.files import sync_tree
from bench.measure import Samples, reason, settle_disk
from bench.ours import open_run
from bench.peers.dcp import DcpSaver, load_into
from bench.results import Table, Verdict, size_name
from bench.targets import at_most
from bench.transformer import Trainer
from holdfast import keep


class LoopWay(Protocol):
    """How a loop saves."""

    def save(self) -> None:
        """Called between two steps."""

    def finish(self) -> None:
        """Returns when the last save is durable."""

    def check(self) -> None:
        """Raises unless the last save holds the present state."""

    def close(self) -> None:
        """Gives everything back."""


class Holdfast:
    """A run with model and optimizer attached; the newest checkpoint stays."""

    def __init__(self, trainer: Trainer, folder: Path, **options: Any) -> None:
        self._trainer = trainer
        self._store = holdfast.open(folder)
        self._run = open_run(self._store, "loop", policy=keep.latest(1), **options)
        self._run.attach(model=trainer.model, optimizer=trainer.optimizer)
        self._steps = itertools.count()
        self._pending: Any = None

    def save(self) -> None:
        self._pending = self._run.save(next(self._steps))

    def finish(self) -> None:
        self._last = self._pending.wait()

    def check(self) -> None:
        _require_same(self._last.load("model"), self._trainer.model.state_dict())

    def close(self) -> None:
        self._run.close()
        self._store.close()


class Dcp:
    """DCP's `async_save` with staging memory that is kept; the newest checkpoint stays."""

    def __init__(self, trainer: Trainer, folder: Path) -> None:
        self._trainer, self._folder = trainer, folder
        self._saver = DcpSaver("cached")
        self._numbers = itertools.count()
        self._now: Path | None = None
        folder.mkdir()

    def save(self) -> None:
        self._before, self._now = self._now, self._folder / str(next(self._numbers))
        self._saver.start(
            {
                "model": self._trainer.model.state_dict(),
                "optimizer": self._trainer.optimizer.state_dict(),
            },
            self._now,
        )

    def finish(self) -> None:
        assert self._now is not None
        self._saver.finish()
        sync_tree(self._now)
        if self._before is not None:
            shutil.rmtree(self._before)

    def check(self) -> None:
        assert self._now is not None
        live = self._trainer.model.state_dict()
        loaded = {name: torch.zeros_like(tensor) for name, tensor in live.items()}
        load_into(self._now, {"model": loaded})
        _require_same(loaded, live)

    def close(self) -> None:
        self._saver.close()


def _require_same(found: Mapping[str, Any], live: Mapping[str, Any]) -> None:
    for name, tensor in live.items():
        if not torch.equal(found[name], tensor):
            raise ValueError(f"{name} came back with other values")


#: Name to what makes the way in a folder.
WAYS: dict[str, Callable[[Trainer, Path], LoopWay]] = {
    "holdfast": Holdfast,
    "holdfast, overlapped": lambda t, folder: Holdfast(t, folder, snapshot="overlap"),
    "DCP async, cached DefaultStager": Dcp,
}


def looping(folder: Path, *, tiny: bool, rounds: int, tick: Callable[[str], object]) -> list[Table]:
    """Measures blocks of ten steps with one save, each between two blocks without one."""
    small = {"width": 64, "layers": 1, "words": 128, "step_s": 0.01}
    full = {"width": 512, "layers": 12, "words": 16_384, "step_s": 1.2}
    trainer = Trainer(**(small if tiny else full))  # type: ignore[arg-type]
    taken: dict[str, list[float]] = {name: [] for name in ("no saves", *WAYS)}
    errors: dict[str, str] = {}
    plain: list[float] = []
    with tempfile.TemporaryDirectory(dir=folder) as inner:
        made: dict[str, LoopWay] = {}
        for number, (name, make) in enumerate(WAYS.items()):
            try:
                made[name] = make(trainer, Path(inner) / str(number))
                made[name].save()
                made[name].finish()
                made[name].check()
            except Exception as error:  # noqa: BLE001 - a way that fails says so
                errors[name] = reason(error)
        before = _block(trainer, None)
        for _ in range(rounds):
            for name in WAYS:
                if name not in errors:
                    try:
                        saving = _block(trainer, made[name])
                    except Exception as error:  # noqa: BLE001 - as above
                        errors[name] = reason(error)
                        continue
                    after = _block(trainer, None)
                    base = (before + after) / 2
                    taken[name].append(100 * (saving / base - 1))
                    taken["no saves"].append(100 * (after / before - 1))
                    plain.append(after)
                    before = after
                tick(name)
        for way in made.values():
            way.close()
    return [_table(trainer, taken, errors, plain)]


def _block(trainer: Trainer, way: LoopWay | None, *, steps: int = 10) -> float:
    """Returns the seconds of a block; what its save still has to do at its end counts."""
    settle_disk()
    began = time.perf_counter()
    for number in range(steps):
        trainer.step()
        if number == 0 and way is not None:
            way.save()
    if way is not None:
        way.finish()
    return time.perf_counter() - began


def _table(
    trainer: Trainer,
    taken: Mapping[str, list[float]],
    errors: Mapping[str, str],
    plain: list[float],
) -> Table:
    notes = {"no saves": "one block against the one before: the noise of this row"}
    ways = tuple(
        Samples(
            name,
            limit=False,
            values=tuple(values),
            error=errors.get(name, ""),
            note=notes.get(name, ""),
        )
        for name, values in taken.items()
    )
    table = Table("loop", "", "% slower", ways)
    title = (
        f"training {trainer.parameters / 1e6:.0f}M parameters "
        f"({size_name(trainer.nbytes)} with Adam), a save every 10 steps"
    )
    shown = (f"Ten steps without a save take {sorted(plain)[len(plain) // 2]:.1f} s.",)
    verdicts: tuple[Verdict, ...] = tuple(
        at_most(f"{name}: 5% at most", table.median(name), 5.0, "%") for name in list(WAYS)[:2]
    )
    return Table("loop", title, "% slower", ways, verdicts, notes=shown if plain else ())
