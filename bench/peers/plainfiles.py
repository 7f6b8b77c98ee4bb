"""One file at once: safetensors, `torch.save`, and Lightning's way of the latter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from bench.peers import Tensors, require


class SafetensorsFile:
    """`safetensors.torch.save_file` and `load_file`."""

    background = False
    copies = 1.0
    note = ""

    def __init__(self) -> None:
        require("safetensors.torch")

    def start(self, tensors: Tensors, folder: Path) -> None:
        import safetensors.torch

        folder.mkdir()
        safetensors.torch.save_file(dict(tensors), folder / "model.safetensors")

    def finish(self) -> None:
        pass

    def load(self, folder: Path, like: Tensors) -> Tensors:
        import safetensors.torch

        return safetensors.torch.load_file(folder / "model.safetensors")

    def prepare(self, tensors: Tensors, folder: Path) -> None:
        self.start(tensors, folder)

    def restore(self, folder: Path, live: Mapping[str, torch.Tensor]) -> None:
        copy_into(live, self.load(folder, live))

    def close(self) -> None:
        pass


class TorchFile:
    """`torch.save` and `torch.load`.

    Args:
        mapped: Whether it is loaded by mapping the file.
    """

    background = False
    copies = 1.0
    note = ""

    def __init__(self, *, mapped: bool = False) -> None:
        self._mapped = mapped

    def start(self, tensors: Tensors, folder: Path) -> None:
        folder.mkdir()
        torch.save(dict(tensors), folder / "model.pt")  # noqa: TID251 - a peer

    def finish(self) -> None:
        pass

    def load(self, folder: Path, like: Tensors) -> Tensors:
        path = folder / "model.pt"
        return torch.load(path, weights_only=True, mmap=self._mapped)  # noqa: TID251 - a peer

    def prepare(self, tensors: Tensors, folder: Path) -> None:
        self.start(tensors, folder)

    def restore(self, folder: Path, live: Mapping[str, torch.Tensor]) -> None:
        copy_into(live, self.load(folder, live))

    def close(self) -> None:
        pass


class LightningFile:
    """What Lightning's ModelCheckpoint saves by: its default CheckpointIO."""

    background = False
    copies = 2.0
    note = "serialized in memory first"

    def __init__(self) -> None:
        require("lightning.fabric.plugins")
        from lightning.fabric.plugins import TorchCheckpointIO

        self._io = TorchCheckpointIO()

    def start(self, tensors: Tensors, folder: Path) -> None:
        folder.mkdir()
        self._io.save_checkpoint({"state_dict": dict(tensors)}, folder / "model.ckpt")

    def finish(self) -> None:
        pass

    def load(self, folder: Path, like: Tensors) -> Tensors:
        loaded = self._io.load_checkpoint(folder / "model.ckpt", weights_only=True)
        return loaded["state_dict"]

    def close(self) -> None:
        pass


def copy_into(live: Mapping[str, torch.Tensor], loaded: Tensors) -> None:
    """Fills live tensors, as `load_state_dict` does."""
    for name, tensor in live.items():
        tensor.copy_(loaded[name])
