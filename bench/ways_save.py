"""The ways to save a state: how long training waits, and how long until it is durable."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch

from bench import files
from bench.measure import Figures, SkippedError, Way, timed
from bench.ours import HoldfastSave
from bench.peers import Saver
from bench.peers.dcp import DcpSaver
from bench.peers.orbax import OrbaxWay
from bench.peers.plainfiles import LightningFile, SafetensorsFile, TorchFile
from bench.peers.torchcheckpointing import TorchCheckpointing
from bench.states import State

#: Free memory that is left alone.
_SPARE_NBYTES = 2 << 30

MEMCPY = "one memory copy, torch's threads"
ALONE = "one memory copy, one thread"
DIRECT = "raw O_DIRECT write + fsync"
BUFFERED = "raw buffered write + fsync"
OURS = "holdfast"
OVERLAP = "holdfast, overlapped"
CLEANING = "holdfast, with clean-up"
BEHIND = "holdfast, from when training goes on"


class CopyOnce:
    """The state's tensors, copied into memory that was used before, by all of torch's threads.

    Args:
        state: What is copied.
        scratch: Where to, as large as the state.
    """

    limit = True
    note = "into touched pages"

    def __init__(self, state: State, scratch: files.Buffer) -> None:
        self.name = MEMCPY
        self._state = state
        numbers = torch.from_numpy(scratch).view(torch.float32)
        self._targets = list(numbers.split([t.numel() for t in state.tensors.values()]))

    def check(self) -> None:
        self.once()
        self._state.require_equal(dict(zip(self._state.tensors, self._targets, strict=True)))

    def once(self) -> Figures:
        sources = list(self._state.tensors.values())
        return {"blocked": timed(lambda: torch._foreach_copy_(self._targets, sources))}

    def close(self) -> None:
        self._targets.clear()


class CopyAlone:
    """As many bytes, copied in one go by one thread."""

    limit = True
    note = "into touched pages"

    def __init__(self, scratch: files.Buffer) -> None:
        self.name = ALONE
        self._source, self._target = scratch, files.touched(len(scratch))

    def check(self) -> None:
        self.once()
        if not np.array_equal(self._source, self._target):
            raise ValueError("it came back with other bytes")

    def once(self) -> Figures:
        return {"blocked": timed(lambda: np.copyto(self._target, self._source))}

    def close(self) -> None:
        del self._source, self._target


class RawWrite:
    """As many bytes, written by the plainest loop there is, and synced."""

    limit = True
    note = ""

    def __init__(
        self,
        name: str,
        scratch: files.Buffer,
        folder: Path,
        write: Callable[[Path, files.Buffer], None],
    ) -> None:
        self.name = name
        self._folder = folder
        self._write = write
        self._data = scratch

    def check(self) -> None:
        self._save()
        written = np.fromfile(self._folder / "raw", np.uint8)
        shutil.rmtree(self._folder)
        if not np.array_equal(written, self._data):
            raise ValueError("it came back with other bytes")

    def once(self) -> Figures:
        self._data += 1
        seconds = self._save()
        shutil.rmtree(self._folder)
        return {"durable": seconds}

    def _save(self) -> float:
        began = time.perf_counter()
        self._folder.mkdir()
        self._write(self._folder / "raw", self._data)
        files.sync_tree(self._folder)
        return time.perf_counter() - began

    def close(self) -> None:
        del self._data


class PeerSave:
    """Another tool, into a fresh folder each time, which is removed outside of what counts."""

    limit = False

    def __init__(self, name: str, saver: Saver, state: State, folder: Path) -> None:
        self.name = name
        self.note = saver.note
        self._saver, self._state, self._folder = saver, state, folder

    def check(self) -> None:
        self._saver.start(self._state.tensors, self._folder)
        self._saver.finish()
        self._state.require_equal(self._saver.load(self._folder, self._state.tensors))
        shutil.rmtree(self._folder)

    def once(self) -> Figures:
        self._state.advance()
        began = time.perf_counter()
        self._saver.start(self._state.tensors, self._folder)
        blocked = time.perf_counter() - began
        self._saver.finish()
        files.sync_tree(self._folder)
        durable = time.perf_counter() - began
        shutil.rmtree(self._folder)
        figures = {"durable": durable}
        return {"blocked": blocked, **figures} if self._saver.background else figures

    def close(self) -> None:
        self._saver.close()


#: Name, how to make it, and the states that it takes besides the live one. Those that take least
#: come first: where memory ends, the last ones are left out.
PEERS: Mapping[str, tuple[Callable[[], Saver], float]] = {
    "safetensors save_file + fsync": (SafetensorsFile, 1.0),
    "torch.save + fsync": (TorchFile, 0.1),
    "DCP save, 2 threads": (DcpSaver, 0.1),
    "DCP async, default": (lambda: DcpSaver("default"), 1.0),
    "DCP async, cached DefaultStager": (lambda: DcpSaver("cached"), 1.0),
    "DCP async, cached BlockingAsyncStager": (lambda: DcpSaver("blocking"), 1.0),
    "torch_checkpointing": (TorchCheckpointing, 1.0),
    "Lightning CheckpointIO": (LightningFile, 2.0),
}
BACKGROUND_PEERS = tuple(name for name in PEERS if "async" in name)
ORBAX = "Orbax AsyncCheckpointer"


def makers(folder: Path, state: State, *, figures: frozenset[str]) -> dict[str, Callable[[], Way]]:
    """Returns what makes each way.

    Args:
        folder: Where to write.
        state: What is saved.
        figures: "blocked", "durable" or both; a way that has none of them is left out.
    """
    nbytes, tensors = state.nbytes, len(state.tensors)
    scratch = files.touched(nbytes)
    made: dict[str, tuple[float, Callable[[], Way]]] = {}
    if "blocked" in figures:
        made[MEMCPY] = (0.0, lambda: CopyOnce(state, scratch))
        made[ALONE] = (1.0, lambda: CopyAlone(scratch))
    if "durable" in figures:
        for name, write in ((DIRECT, files.write_direct), (BUFFERED, files.write_buffered)):
            made[name] = (0.0, partial(RawWrite, name, scratch, folder / "raw", write))
    made[OURS] = (1.0, lambda: HoldfastSave(OURS, state, folder / "store"))
    made[OVERLAP] = (
        1.0,
        lambda: HoldfastSave(OVERLAP, state, folder / "overlap", snapshot="overlap"),
    )
    for name, (make, copies) in PEERS.items():
        if "durable" in figures or name in BACKGROUND_PEERS:
            made[name] = (copies, partial(_peer, name, make, state, folder / "peer"))
    if "durable" in figures:
        made[CLEANING] = (
            1.0,
            lambda: HoldfastSave(CLEANING, state, folder / "cleaning", cleaning=True),
        )
    made[ORBAX] = (3.0, lambda: OrbaxWay(ORBAX, "save", nbytes, tensors, folder / "orbax"))
    return {
        name: partial(_if_it_fits, make, nbytes=round(copies * nbytes))
        for name, (copies, make) in made.items()
    }


def _peer(name: str, make: Callable[[], Saver], state: State, folder: Path) -> Way:
    return PeerSave(name, make(), state, folder)


def _if_it_fits(make: Callable[[], Way], *, nbytes: int) -> Way:
    free = free_memory()
    if nbytes + _SPARE_NBYTES > free:
        raise SkippedError(f"not run: needs {nbytes / 1e9:.1f} GB of {free / 1e9:.1f} GB free")
    return make()


def free_memory() -> int:
    """Returns bytes that may be allocated without swapping."""
    with Path("/proc/meminfo").open() as lines:
        for line in lines:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
