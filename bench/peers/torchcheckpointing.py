"""The package torch_checkpointing, writing at once and through the page cache."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import torch

from bench.peers import Tensors, require


class TorchCheckpointing:
    """`CheckpointManager` with synchronous saves; everything in one item."""

    background = False
    copies = 1.0
    note = "buffered; its background saves are a separate process and need shared memory"

    def __init__(self) -> None:
        require("torch_checkpointing")
        import torch_checkpointing
        from torch_checkpointing.storage.filesystem import LocalFileSystemStorageConfig

        logging.getLogger("torch_checkpointing").setLevel(logging.ERROR)
        config = torch_checkpointing.CheckpointManager.Config.with_sync_save()
        config.storage_config = LocalFileSystemStorageConfig(use_direct_io=False)
        self._manager = config.build()

    def start(self, tensors: Tensors, folder: Path) -> None:
        self._manager.save(str(folder), {"model": dict(tensors)})

    def finish(self) -> None:
        pass

    def load(self, folder: Path, like: Tensors) -> Tensors:
        live = {name: torch.zeros_like(tensor) for name, tensor in like.items()}
        return self._manager.load(str(folder), into={"model": live})["model"]

    def prepare(self, tensors: Tensors, folder: Path) -> None:
        self.start(tensors, folder)

    def restore(self, folder: Path, live: Mapping[str, torch.Tensor]) -> None:
        loaded = self._manager.load(str(folder), into={"model": dict(live)})["model"]
        for name, tensor in live.items():
            if loaded[name].data_ptr() != tensor.data_ptr():
                tensor.copy_(loaded[name])

    def close(self) -> None:
        self._manager.close()
