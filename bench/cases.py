"""What is measured: each case is named ways to do one thing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

import holdfast
from holdfast import keep, when

Ways = dict[str, Callable[[], float]]


def make_state(nbytes: int, tensors: int) -> dict[str, torch.Tensor]:
    """Returns float32 tensors of so many bytes in all."""
    generator = torch.Generator().manual_seed(0)
    size = max(1, nbytes // 4 // tensors)
    return {f"layer{i}.weight": torch.randn(size, generator=generator) for i in range(tensors)}


class Changing:
    """A state of which every byte changes between two saves."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        self.state = state

    def advance(self) -> None:
        for tensor in self.state.values():
            tensor.add_(1e-3)


def saving(folder: Path, changing: Changing) -> tuple[Ways, Ways, Callable[[], None]]:
    """Returns the ways to save until durable, the ways that training is blocked, and a clean-up."""
    store = holdfast.open(folder / "store")
    run = store.run("bench", save=when.never(), keep=keep.latest(1))
    run.attach(model=changing.state)
    source = np.concatenate([t.numpy().reshape(-1) for t in changing.state.values()])
    target = np.ones_like(source)
    counter = iter(range(1_000_000))

    def durable(write: Callable[[Path], None]) -> float:
        changing.advance()
        path = folder / "peer"
        began = time.perf_counter()
        write(path)
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        seconds = time.perf_counter() - began
        path.unlink()
        return seconds

    def raw(path: Path) -> None:
        with path.open("wb", buffering=0) as file:
            view = memoryview(source).cast("B")
            while len(view):
                view = view[file.write(view[: 32 << 20]) :]

    def ours() -> float:
        changing.advance()
        began = time.perf_counter()
        run.save(next(counter)).wait()
        return time.perf_counter() - began

    def blocked() -> float:
        changing.advance()
        began = time.perf_counter()
        pending = run.save(next(counter))
        seconds = time.perf_counter() - began
        pending.wait()
        return seconds

    def copied() -> float:
        began = time.perf_counter()
        np.copyto(target, source)
        return time.perf_counter() - began

    until_durable: Ways = {
        "raw write + fsync": lambda: durable(raw),
        "holdfast (digests, synced)": ours,
        "safetensors + fsync": lambda: durable(
            lambda path: safetensors.torch.save_file(changing.state, path)
        ),
        "torch.save + fsync": lambda: durable(lambda path: torch.save(changing.state, path)),  # noqa: TID251 - a peer
    }
    while_blocked: Ways = {"one memory copy": copied, "holdfast": blocked}

    def clean_up() -> None:
        store.close()
        shutil.rmtree(folder / "store")

    return until_durable, while_blocked, clean_up


def restoring(folder: Path, state: dict[str, torch.Tensor]) -> tuple[Ways, Callable[[], None]]:
    """Returns the ways to get a state back into live tensors, from a warm cache."""
    store = holdfast.open(folder / "store")
    with store.run("bench", save=when.never()) as run:
        run.attach(model=state)
        checkpoint = run.save(0).wait()
    safetensors.torch.save_file(state, folder / "peer.safetensors")
    torch.save(state, folder / "peer.pt")  # noqa: TID251 - a peer
    live = {name: torch.zeros_like(tensor) for name, tensor in state.items()}

    def into_live(loaded: dict[str, Any]) -> None:
        for name, tensor in live.items():
            tensor.copy_(loaded[name])

    def seconds(work: Callable[[], object]) -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    ways: Ways = {
        "holdfast (every digest checked)": lambda: seconds(
            lambda: store.get(checkpoint.id).restore(model=live)
        ),
        "safetensors (nothing checked)": lambda: seconds(
            lambda: into_live(safetensors.torch.load_file(folder / "peer.safetensors"))
        ),
        "torch.load (nothing checked)": lambda: seconds(
            lambda: into_live(torch.load(folder / "peer.pt", weights_only=True))  # noqa: TID251 - a peer
        ),
    }

    def clean_up() -> None:
        store.close()
        shutil.rmtree(folder / "store")
        (folder / "peer.safetensors").unlink()
        (folder / "peer.pt").unlink()

    return ways, clean_up


def deciding(folder: Path, *, calls: int) -> float:
    """Returns the median microseconds of a `step` that decides not to save."""
    with (
        holdfast.open(folder / "store") as store,
        store.run("bench", metric="loss", save=when.improved() | when.every(steps=10**9)) as run,
    ):
        run.step(0, {"loss": 0.0})
        run.wait()
        samples = []
        for step in range(1, calls):
            began = time.perf_counter()
            run.step(step, {"loss": 1.0})
            samples.append(time.perf_counter() - began)
    shutil.rmtree(folder / "store")
    return float(np.median(samples)) * 1e6


def frozen(folder: Path, *, nbytes: int, checkpoints: int) -> float:
    """Returns states stored per state, of a model of which 90% is frozen."""
    tensors = make_state(nbytes, 20)
    model = torch.nn.ParameterDict(
        {name.replace(".", "_"): torch.nn.Parameter(tensor) for name, tensor in tensors.items()}
    )
    for parameter in list(model.parameters())[:18]:
        parameter.requires_grad_(False)
    with holdfast.open(folder / "store") as store:
        with store.run("bench", save=when.never()) as run:
            run.attach(model=model)
            for step in range(checkpoints):
                with torch.no_grad():
                    for parameter in list(model.parameters())[18:]:
                        parameter.add_(1e-3)
                run.save(step).wait()
        stored = sum(checkpoint.stored_nbytes for checkpoint in store.checkpoints())
        logical = store.checkpoints(limit=1)[0].nbytes
    shutil.rmtree(folder / "store")
    return stored / logical


def importing(*, repeats: int) -> float:
    """Returns the median milliseconds that `import holdfast` adds to a bare interpreter."""
    code = "import time; t = time.perf_counter(); import holdfast; print(time.perf_counter() - t)"
    samples = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(repeats)
    ]
    return float(np.median(samples)) * 1e3
