"""Where the time of a save and of a restore goes: the seams of the library, wrapped from outside.

A phase's time is counted once: what a wrapped call does inside another one belongs to the inner
one, unless the outer one is `whole`. Threads add up, so phases that run side by side come to more
than the time that passes.
"""

from __future__ import annotations

import functools
import importlib
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import holdfast
from bench.files import files_below
from bench.measure import Samples
from bench.results import Table, size_name
from bench.states import State, shape_name
from holdfast import keep, when


@dataclass(frozen=True, slots=True)
class Seam:
    """A function or method of the library: ``module:name`` or ``module:Class.method``.

    Attributes:
        phase: What its time is counted as.
        place: Where it is.
        whole: Whether everything inside belongs to it.
        makes: The method of what it returns that counts, too; "()" where that is called itself.
    """

    phase: str
    place: str
    whole: bool = False
    makes: str = ""


_POSIX = "holdfast.storage.posix:Posix."

SAVE = (
    Seam("flatten", "holdfast.attached:Attached.capture"),
    Seam("copy", "holdfast.engine.snapshot:Snapshots.take", whole=True),
    Seam("digests", "blake3:blake3", makes="update"),
    Seam("finite", "holdfast.engine.finite:finite_check", makes="()"),
    Seam("write", _POSIX + "write"),
    Seam("write", _POSIX + "pwrite"),
    Seam("fsync", _POSIX + "fsync"),
    Seam("names of files", _POSIX + "create"),
    Seam("names of files", _POSIX + "rename"),
    Seam("names of files", _POSIX + "link"),
    Seam("manifest", "holdfast.engine.manifest:encode"),
    Seam("journal", "holdfast.recorder:StepRecorder.flush", whole=True),
    Seam("catalog", "holdfast.lifecycle.place:Place.index", whole=True),
    Seam("clean-up, afterwards", "holdfast.retaining:Retention.apply", whole=True),
    Seam("the rest of the commit", "holdfast.engine.commit:commit"),
    Seam("the rest of the save", "holdfast.saving:Saver._save"),
)

RESTORE = (
    Seam("catalog", "holdfast.store:Store.get", whole=True),
    Seam("manifest", "holdfast.engine.reader:read_manifest", whole=True),
    Seam("headers", "holdfast.engine.reader:locate", whole=True),
    Seam("plan", "holdfast.items:plan_restore"),
    Seam("read", "holdfast.storage.openfiles:OpenFile.read_into"),
    Seam("read", "holdfast.storage.openfiles:OpenFile.read_into_each"),
    Seam("digests", "blake3:blake3", makes="update"),
    Seam("apply", "holdfast.items:Restore.finish"),
    Seam("the rest of the restore", "holdfast.lifecycle.loading:restore"),
)


class Clock:
    """Seconds and calls by phase, each moment of a thread counted once."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._local = threading.local()
        self._lock = threading.Lock()

    def timed(self, seam: Seam, work: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a function that counts as a seam's phase."""

        @functools.wraps(work, updated=())
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            open_calls = self._local.__dict__.setdefault("open", [])
            if any(whole for _, whole in open_calls):
                return work(*args, **kwargs)
            inner = [0.0]
            open_calls.append((inner, seam.whole))
            began = time.perf_counter()
            try:
                return work(*args, **kwargs)
            finally:
                spent = time.perf_counter() - began
                open_calls.pop()
                if open_calls:
                    open_calls[-1][0][0] += spent
                with self._lock:
                    self.seconds[seam.phase] += spent - inner[0]

        return wrapped


class _Watched:
    """Stands in for an object whose class allows no subclass, with one method that counts."""

    def __init__(self, inner: Any, name: str, method: Callable[..., Any]) -> None:
        self._inner = inner
        self._name = name
        self._method = method

    def __getattr__(self, name: str) -> Any:
        return self._method if name == self._name else getattr(self._inner, name)


@contextmanager
def watched(seams: tuple[Seam, ...], clock: Clock) -> Iterator[list[str]]:
    """Wraps seams while the block runs; yields those that are not there (any more)."""
    missing, undo = [], []
    for seam in seams:
        try:
            undo.extend(_wrap(seam, clock))
        except AttributeError:
            missing.append(seam.place)
    try:
        yield missing
    finally:
        for owner, name, original in undo:
            setattr(owner, name, original)


def _wrap(seam: Seam, clock: Clock) -> list[tuple[Any, str, Any]]:
    module_name, _, path = seam.place.partition(":")
    module = importlib.import_module(module_name)
    owner_name, _, name = path.rpartition(".")
    if owner_name:
        owner = getattr(module, owner_name)
        original = owner.__dict__.get(name)
        if original is None:
            raise AttributeError(name)
        setattr(owner, name, clock.timed(seam, original))
        return [(owner, name, original)]
    original = getattr(module, name)
    wrapper = clock.timed(seam, original)
    if seam.makes:
        wrapper = _making(seam, wrapper, clock)
    # Wherever it was imported to by its name.
    users = [
        one
        for key, one in list(sys.modules.items())
        if key.startswith("holdfast") and getattr(one, name, None) is original
    ]
    for user in users:
        setattr(user, name, wrapper)
    return [(user, name, original) for user in users]


def _making(seam: Seam, make: Callable[..., Any], clock: Clock) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        made = make(*args, **kwargs)
        if made is None:
            return None
        if seam.makes == "()":
            return clock.timed(seam, made)
        return _Watched(made, seam.makes, clock.timed(seam, getattr(made, seam.makes)))

    return wrapper


def profiles(
    folder: Path, *, nbytes: int, tensors: int, repeats: int, tick: Callable[[str], object]
) -> list[Table]:
    """Returns the phases of a save and of a restore, medians of some repeats."""
    state, live = State(nbytes, tensors), State(nbytes, tensors, seed=1)
    saves: list[Mapping[str, float]] = []
    restores: list[Mapping[str, float]] = []
    missing: set[str] = set()
    with (
        tempfile.TemporaryDirectory(dir=folder) as inner,
        holdfast.open(Path(inner) / "store") as store,
        store.run("bench", save=when.never(), keep=keep.latest(1)) as run,
    ):
        run.attach(model=state.model)
        for step in range(repeats + 1):
            state.advance()
            clock = Clock()
            with watched(SAVE, clock) as absent:
                missing.update(absent)
                began = time.perf_counter()
                pending = run.save(step)
                blocked = time.perf_counter() - began
                saved = pending.wait()
                passed = time.perf_counter() - began
                run.wait()
            saves.append({**clock.seconds, _BLOCKED: blocked, _PASSED: passed})
            tick("save")
            live.zero()
            # What was written past the page cache is not in it.
            for path in files_below(saved.path):
                path.read_bytes()
            clock = Clock()
            with watched(RESTORE, clock) as absent:
                missing.update(absent)
                began = time.perf_counter()
                store.get(saved.id).restore(model=live.model)
                passed = time.perf_counter() - began
            restores.append({**clock.seconds, _PASSED: passed})
            tick("restore")
        state.require_equal(live.tensors)
    shape = f"{size_name(state.nbytes)} in {shape_name(tensors)}"
    return [
        _table(f"where a save's time goes, {shape}", SAVE, saves, missing),
        _table(f"where a restore's time goes, {shape}, warm", RESTORE, restores, missing),
    ]


_BLOCKED = "(time that training waited)"
_PASSED = "(time that passed in all)"


def _table(
    title: str, seams: tuple[Seam, ...], taken: list[Mapping[str, float]], missing: set[str]
) -> Table:
    phases = dict.fromkeys((*(seam.phase for seam in seams), _BLOCKED, _PASSED))
    ways = tuple(
        Samples(phase, limit=False, values=tuple(1e3 * one.get(phase, 0.0) for one in taken[1:]))
        for phase in phases
        if any(phase in one for one in taken)
    )
    notes = ["Threads add up: phases that run side by side come to more than the time that passed."]
    absent = sorted(missing & {seam.place for seam in seams})
    if absent:
        notes.append(f"Not found, so counted as part of what calls them: {', '.join(absent)}.")
    return Table("profile", title, "ms", ways, notes=tuple(notes))
