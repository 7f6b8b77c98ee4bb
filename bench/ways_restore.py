"""The ways to get a state back into live tensors, from a warm and from a cold page cache."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from bench import files
from bench.measure import Figures, Way, timed
from bench.ours import HoldfastRestore
from bench.peers import Restorer
from bench.peers.dcp import DcpRestorer
from bench.peers.orbax import OrbaxWay
from bench.peers.plainfiles import SafetensorsFile, TorchFile
from bench.peers.torchcheckpointing import TorchCheckpointing
from bench.states import State

OURS = "holdfast, verified"
ORBAX = "Orbax"


class RawRead:
    """As many bytes of one file, read into memory that was used before."""

    limit = True
    note = ""

    def __init__(self, name: str, nbytes: int, folder: Path, *, threads: int) -> None:
        self.name = name
        self._path = folder / f"raw{threads}"
        self._source = files.touched(nbytes)
        self._source[:: files.PRIME] = 7
        self._target = files.touched(nbytes)
        files.write_buffered(self._path, self._source)
        self._read = files.raw_reader(self._path, self._target, threads=threads)

    def check(self) -> None:
        self._read()
        if not (self._source == self._target).all():
            raise ValueError("it came back with other bytes")
        del self._source

    def once(self) -> Figures:
        warm = timed(self._read)
        files.evict([self._path])
        return {"warm": warm, "cold": timed(self._read)}

    def close(self) -> None:
        self._path.unlink()


class PeerRestore:
    """Another tool; nothing that it reads is checked against anything."""

    limit = False

    def __init__(
        self, name: str, restorer: Restorer, state: State, live: State, folder: Path
    ) -> None:
        self.name = name
        self.note = ""
        self._restorer, self._state, self._live = restorer, state, live
        self._folder = folder
        restorer.prepare(state.tensors, folder)
        files.sync_tree(folder)

    def check(self) -> None:
        self._restore()
        self._state.require_equal(self._live.tensors)

    def once(self) -> Figures:
        warm = self._restore()
        files.evict(files.files_below(self._folder))
        return {"warm": warm, "cold": self._restore()}

    def _restore(self) -> float:
        self._live.zero()
        return timed(lambda: self._restorer.restore(self._folder, self._live.tensors))

    def close(self) -> None:
        self._restorer.close()
        shutil.rmtree(self._folder)


PEERS: Mapping[str, Callable[[], Restorer]] = {
    "safetensors load_file + copy": SafetensorsFile,
    "torch.load + copy": TorchFile,
    "torch.load(mmap=True) + copy": lambda: TorchFile(mapped=True),
    "DCP load": DcpRestorer,
    "torch_checkpointing": TorchCheckpointing,
}


def makers(folder: Path, state: State, live: State) -> dict[str, Callable[[], Way]]:
    """Returns what makes each way.

    Args:
        folder: Where to write.
        state: What is stored.
        live: Of the same shape; what is restored goes there.
    """
    made: dict[str, Callable[[], Way]] = {}
    for threads in dict.fromkeys((1, len(os.sched_getaffinity(0)))):
        name = f"raw read, {threads} thread{'s' if threads > 1 else ''}"
        made[name] = partial(RawRead, name, state.nbytes, folder, threads=threads)
    made[OURS] = lambda: HoldfastRestore(OURS, state, live, folder / "store")
    for number, (name, make) in enumerate(PEERS.items()):
        made[name] = partial(_peer, name, make, state, live, folder / f"peer{number}")
    tensors = len(state.tensors)
    made[ORBAX] = lambda: OrbaxWay(ORBAX, "restore", state.nbytes, tensors, folder / "orbax")
    return made


def _peer(name: str, make: Callable[[], Restorer], state: State, live: State, folder: Path) -> Way:
    return PeerRestore(name, make(), state, live, folder)
