"""A process of its own for Orbax, which brings JAX along: one repeat for each line it is sent."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.files import evict, files_below, sync_tree

State = dict[str, Any]


def make_state(nbytes: int, tensors: int) -> State:
    """Returns float32 arrays of so many bytes in all."""
    generator = np.random.default_rng(0)
    size = max(1, nbytes // 4 // tensors)
    return {f"layer{i}": generator.standard_normal(size, dtype=np.float32) for i in range(tensors)}


class Saving:
    """`AsyncCheckpointer` with the handler for plain trees."""

    def __init__(self, nbytes: int, tensors: int, folder: Path) -> None:
        import orbax.checkpoint as ocp

        self._ocp = ocp
        self._state = make_state(nbytes, tensors)
        self._checkpointer = ocp.AsyncCheckpointer(ocp.StandardCheckpointHandler())
        self._folder = folder

    def check(self) -> dict[str, float]:
        self._save()
        restored = self._checkpointer.restore(
            self._folder, args=self._ocp.args.StandardRestore(self._state)
        )
        require_equal(self._state, restored)
        shutil.rmtree(self._folder)
        return {}

    def once(self) -> dict[str, float]:
        for array in self._state.values():
            np.add(array, np.float32(1e-3), out=array)
        os.sync()
        figures = self._save()
        shutil.rmtree(self._folder)
        return figures

    def _save(self) -> dict[str, float]:
        began = time.perf_counter()
        self._checkpointer.save(self._folder, args=self._ocp.args.StandardSave(self._state))
        blocked = time.perf_counter() - began
        self._checkpointer.wait_until_finished()
        sync_tree(self._folder)
        return {"blocked": blocked, "durable": time.perf_counter() - began}


class Restoring:
    """`restore`, and a copy into the arrays that live on."""

    def __init__(self, nbytes: int, tensors: int, folder: Path) -> None:
        import orbax.checkpoint as ocp

        self._ocp = ocp
        self._state = make_state(nbytes, tensors)
        self._live = {name: np.zeros_like(array) for name, array in self._state.items()}
        self._checkpointer = ocp.Checkpointer(ocp.StandardCheckpointHandler())
        self._checkpointer.save(folder, args=ocp.args.StandardSave(self._state))
        self._folder = folder

    def check(self) -> dict[str, float]:
        self._restore()
        require_equal(self._state, self._live)
        return {}

    def once(self) -> dict[str, float]:
        warm = self._restore()
        evict(files_below(self._folder))
        return {"warm": warm, "cold": self._restore()}

    def _restore(self) -> float:
        for array in self._live.values():
            array[:] = 0
        began = time.perf_counter()
        restored = self._checkpointer.restore(
            self._folder, args=self._ocp.args.StandardRestore(self._state)
        )
        for name, array in self._live.items():
            np.copyto(array, restored[name])
        return time.perf_counter() - began


def require_equal(state: State, other: State) -> None:
    """Raises unless two states are the same, to the bit."""
    for name, array in state.items():
        if not np.array_equal(array, other[name]):
            raise ValueError(f"{name} came back with other values")


def main() -> None:
    """Answers each line of the input with one line of JSON."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not get between the replies
    role, nbytes, tensors, folder = sys.argv[1:]
    work: Saving | Restoring | None = None

    def answer(call: Callable[[], dict[str, float]]) -> None:
        try:
            reply: dict[str, Any] = {"figures": call()}
        except Exception as error:  # noqa: BLE001 - told to the process that asked
            reply = {"error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()

    def make() -> dict[str, float]:
        nonlocal work
        kind = Saving if role == "save" else Restoring
        work = kind(int(nbytes), int(tensors), Path(folder))
        return {}

    answer(make)
    for line in sys.stdin:
        if work is None:
            break
        answer(work.check if line.strip() == "check" else work.once)


if __name__ == "__main__":
    main()
