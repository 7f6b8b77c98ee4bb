"""Small states, stores and media that the tests of runs share."""

import contextlib
import threading
from collections.abc import Iterator, Sequence

import numpy as np

import holdfast
from holdfast import keep, when
from holdfast.storage.posix import Buffer, Posix


def weights(fill: float = 0.0, size: int = 8) -> dict[str, np.ndarray]:
    """Returns a model's state: one array."""
    return {"w": np.full(size, fill)}


def attached(run: holdfast.Run, fill: float = 0.0) -> dict[str, np.ndarray]:
    """Attaches a small model and returns it."""
    model = weights(fill)
    run.attach(model=model)
    return model


def manual(store: holdfast.Store, name: str = "run", **options) -> holdfast.Run:
    """Returns a run with a model attached that saves by hand only."""
    run = store.run(name, **{"save": when.never(), "keep": keep.all(), **options})
    attached(run)
    return run


def saved(run: holdfast.Run, *arguments, **options) -> holdfast.Checkpoint:
    """Saves, and waits for the checkpoint and for the clean-up that follows it."""
    checkpoint = run.save(*arguments, **options).wait()
    run.wait()
    return checkpoint


def steps_of(source: holdfast.Store | holdfast.Run, *run: str) -> list[int]:
    """Returns the steps of the checkpoints that there are, oldest first."""
    found = source.checkpoints(*run, order_by="created_at")
    return [checkpoint.step for checkpoint in found]


def flip(checkpoint: holdfast.Checkpoint, name: str = "model.safetensors") -> None:
    """Flips a bit in the last byte of one of a checkpoint's files."""
    path = checkpoint.path / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 0x10
    path.chmod(0o644)
    path.write_bytes(data)


class Clock:
    """A clock that a test sets."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class GatedPosix(Posix):
    """A slow medium: while the gate is closed, a write waits."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Event()

    def create(self, path: str, mode: int) -> int:
        if not self.gate.is_set():
            self.waiting.set()
            assert self.gate.wait(60)
        return super().create(path, mode)


class FailingPosix(Posix):
    """A medium that refuses to write files while it is broken."""

    def __init__(self) -> None:
        self.error: OSError | None = None

    def write(self, fd: int, parts: Sequence[Buffer]) -> int:
        if self.error is not None:
            raise self.error
        return super().write(fd, parts)


def on_medium(store: holdfast.Store, posix: Posix) -> None:
    """Makes a store write through a medium of the test's."""
    store._place.storage.posix = posix


@contextlib.contextmanager
def slow(store: holdfast.Store) -> Iterator[GatedPosix]:
    """A store on a medium that stands still inside the block, and goes on after it."""
    medium = GatedPosix()
    on_medium(store, medium)
    medium.gate.clear()
    try:
        yield medium
    finally:
        medium.gate.set()
