"""The row of bytes: what ten checkpoints of a model take that changes little between them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

import holdfast
from bench.files import bytes_below
from bench.measure import Samples, reason
from bench.results import Table
from bench.targets import at_most
from holdfast import keep, when

_CHECKPOINTS = 10


class Partly(nn.Module):
    """Twenty layers, of which two change.

    Args:
        nbytes: In all.
        hint: Whether the layers that rest say so by ``requires_grad``.
    """

    def __init__(self, nbytes: int, *, hint: bool) -> None:
        super().__init__()
        size = max(1, nbytes // 4 // 20)
        self.layers = nn.ParameterList(nn.Parameter(torch.randn(size)) for _ in range(20))
        for layer in list(self.layers)[:18]:
            layer.requires_grad_(not hint)
        self.changing = list(self.layers)[18:]


class Adapted(nn.Module):
    """A frozen model with small adapters, as LoRA trains it: 1% changes."""

    def __init__(self, nbytes: int) -> None:
        super().__init__()
        size = max(100, nbytes // 4 // 20)
        self.base = nn.ParameterList(nn.Parameter(torch.randn(size)) for _ in range(20))
        self.base.requires_grad_(False)
        self.adapters = nn.ParameterList(nn.Parameter(torch.randn(size // 100)) for _ in range(20))
        self.changing = list(self.adapters)


class Tied(nn.Module):
    """An embedding that is the output layer, too, and all of it changes."""

    def __init__(self, nbytes: int) -> None:
        super().__init__()
        rows = max(2, nbytes // 4 // 64)
        self.embedding = nn.Embedding(rows, 64)
        self.head = nn.Linear(64, rows, bias=False)
        self.head.weight = self.embedding.weight
        self.changing = [self.embedding.weight]


#: What the state is, how to make it, and how many states ten checkpoints must hold at least.
MODELS: dict[str, tuple[Callable[[int], nn.Module], float]] = {
    "90% frozen, requires_grad=False": (lambda nbytes: Partly(nbytes, hint=True), 1.9),
    "90% unchanged, nothing says so": (lambda nbytes: Partly(nbytes, hint=False), 1.9),
    "LoRA-like, 1% changes": (Adapted, 1.09),
    "tied weights, all changes": (Tied, 10.0),
}


def stored(folder: Path, *, nbytes: int, tick: Callable[[str], object]) -> list[Table]:
    """Measures the bytes on the disk, files of one name or many counted once."""
    ways = []
    for name, (make, least) in MODELS.items():
        note = f"at least {least:g}"
        try:
            value = _states(folder, make(nbytes))
            ways.append(Samples(name, limit=False, values=(value,), note=note))
        except Exception as error:  # noqa: BLE001 - a way that fails says so
            ways.append(Samples(name, limit=False, values=(), error=reason(error)))
        tick(name)
    peer = Samples("a file for each checkpoint (all peers)", limit=False, values=(10.0,))
    table = Table("stored", f"bytes stored by {_CHECKPOINTS} checkpoints", "states", (*ways, peer))
    hinted = table.median(next(iter(MODELS)))
    verdicts = (at_most("2.0 states", hinted, 2.0, "states"),)
    notes = (
        "A state is the model's distinct bytes; the figure counts all files of the store.",
        "Where nothing says what rests, the second checkpoint finds out, and writes it once more.",
    )
    return [Table(table.row, table.title, table.unit, table.ways, verdicts, notes=notes)]


def _states(folder: Path, model: nn.Module) -> float:
    with tempfile.TemporaryDirectory(dir=folder) as inner:
        with (
            holdfast.open(Path(inner) / "store") as store,
            store.run("bench", save=when.never(), keep=keep.all()) as run,
        ):
            run.attach(model=model)
            for step in range(_CHECKPOINTS):
                with torch.no_grad():
                    for parameter in model.changing:
                        parameter.add_(1e-3)
                last = run.save(step).wait()
            restored = last.load("model")
        for name, tensor in model.state_dict().items():
            if not torch.equal(restored[name], tensor):
                raise ValueError(f"{name} came back with other values")
        distinct = {p.data_ptr(): p.nbytes for p in model.state_dict().values()}
        return bytes_below(Path(inner) / "store") / sum(distinct.values())
