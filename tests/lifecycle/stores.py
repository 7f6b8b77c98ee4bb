"""What the tests of the lifecycle share: small stores made through the public face, and damage."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

import holdfast
from holdfast import keep, when
from holdfast.checkpoint import Checkpoint
from holdfast.errors import HoldfastError
from holdfast.policy.retention import KeepPolicy

Values = dict[str, torch.Tensor]


def values(seed: float) -> Values:
    """A state of two small tensors, told apart by a number."""
    return {"weight": torch.full((3, 2), float(seed)), "bias": torch.arange(2.0) + seed}


def train(
    store: holdfast.Store,
    name: str,
    losses: Iterable[float],
    *,
    policy: KeepPolicy | None = None,
    frozen: float | None = None,
    config: dict[str, object] | None = None,
    finish: bool = True,
) -> list[Checkpoint]:
    """Saves a checkpoint per loss; the weights are the loss, and frozen ones never change."""
    items: dict[str, Values] = {"model": values(0)}
    if frozen is not None:
        items["frozen"] = values(frozen)
    run = store.run(
        name,
        metric="loss",
        save=when.never(),
        keep=keep.all() if policy is None else policy,
        config=config or {},
    )
    saved = []
    run.attach(**items)
    for step, loss in enumerate(losses):
        for key, tensor in values(loss).items():
            items["model"][key].copy_(tensor)
        saved.append(run.save(step, {"loss": loss}).wait())
    if finish:
        # As finish() does, without the checkpoint that it adds.
        run._session.close("finished", final=True)
    return saved


def write_policy(store: holdfast.Store, name: str, policy: KeepPolicy) -> None:
    """Opens a run anew, so that its journal names another policy, and closes it as interrupted."""
    run = store.run(name, metric="loss", save=when.never(), keep=policy)
    run._session.close("interrupted")


def flip(path: Path, *, at: int = -1) -> None:
    """Flips one bit of a published, read-only file; every name of it sees that."""
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    path.chmod(0o444)


def detach(path: Path) -> None:
    """Gives a name a file of its own, as a medium without hard links would."""
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)
    path.chmod(0o444)


def listing(root: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder but the catalog's, with its size and number of names."""
    found = {}
    for folder, _, files in os.walk(root):
        for name in files:
            path = Path(folder) / name
            if not name.startswith("catalog.sqlite3"):
                status = path.stat()
                found[str(path.relative_to(root))] = (status.st_size, status.st_nlink)
    return found


def ids(infos: Iterable[object]) -> list[str]:
    return [info.id for info in infos]  # type: ignore[attr-defined]


def outcome(call: Callable[[], object]) -> object:
    """What a call returns, or the error that it raises on purpose."""
    try:
        return call()
    except HoldfastError as refused:
        return refused
