"""PyTorch's distributed checkpointing, in one process."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Literal

import torch

from bench.peers import Tensors, require

Stager = Literal["cached", "blocking", "default"]


class DcpSaver:
    """`save`, or `async_save` with a stager.

    Args:
        stager: None saves at once; "cached" keeps `DefaultStager`'s memory between saves,
            "blocking" is `BlockingAsyncStager(cache_staged_state_dict=True)`, "default" is what
            `async_save` does when it is told nothing.
    """

    def __init__(self, stager: Stager | None = None) -> None:
        require("torch.distributed.checkpoint")
        warnings.filterwarnings("ignore", module=r"torch\.distributed\..*")
        self.background = stager is not None
        self.copies = 1.0 if stager else 0.1
        self.note = ""
        if stager in ("cached", "blocking"):
            self.note = "its staging memory is not pinned: there is no accelerator"
        self._kind = stager
        self._stager: Any = None
        self._pending: Future[Any] | None = None

    def start(self, tensors: Mapping[str, Any], folder: Path) -> None:
        import torch.distributed.checkpoint as dcp

        state = dict(tensors)
        if not self.background:
            writer = dcp.FileSystemWriter(folder, thread_count=2)
            _converted(lambda: dcp.save(state, storage_writer=writer, no_dist=True))
            return
        if self._kind == "default":
            how: dict[str, Any] = {"checkpoint_id": folder}
        else:
            self._stager = self._stager or self._made_stager(state)
            how = {
                "storage_writer": dcp.FileSystemWriter(folder, thread_count=2),
                "async_stager": self._stager,
            }
        self._pending = _converted(lambda: dcp.async_save(state, no_dist=True, **how))

    def _made_stager(self, state: dict[str, Any]) -> object:
        from torch.distributed._state_dict_utils import _create_cpu_state_dict
        from torch.distributed.checkpoint.staging import (
            BlockingAsyncStager,
            DefaultStager,
            StagingOptions,
        )

        if self._kind == "blocking":
            stager = BlockingAsyncStager(cache_staged_state_dict=True)
            # It would ask for pinned memory, which needs an accelerator.
            stager.state_dict_cache = _create_cpu_state_dict(state, pin_memory=False)
            return stager
        return DefaultStager(
            StagingOptions(
                use_pinned_memory=False, use_async_staging=False, use_non_blocking_copy=False
            )
        )

    def finish(self) -> None:
        if self._pending is not None:
            pending, self._pending = self._pending, None
            _converted(pending.result)

    def load(self, folder: Path, like: Tensors) -> Tensors:
        loaded = {name: torch.zeros_like(tensor) for name, tensor in like.items()}
        load_into(folder, loaded)
        return loaded

    def close(self) -> None:
        if self._stager is not None:
            self._stager.close()


class DcpRestorer:
    """`save`, then `load` into live tensors."""

    copies = 0.1
    note = ""

    def __init__(self) -> None:
        self._saver = DcpSaver()

    def prepare(self, tensors: Tensors, folder: Path) -> None:
        self._saver.start(tensors, folder)

    def restore(self, folder: Path, live: Mapping[str, torch.Tensor]) -> None:
        load_into(folder, live)

    def close(self) -> None:
        pass


def load_into(folder: Path, live: Tensors) -> None:
    """Loads in place."""
    import torch.distributed.checkpoint as dcp

    reader = dcp.FileSystemReader(folder)
    _converted(lambda: dcp.load(dict(live), storage_reader=reader, no_dist=True))


def _converted(work: Callable[[], Any]) -> Any:
    """Runs something; its errors derive from BaseException, and come out as an Exception."""
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        return work()
    except CheckpointException as error:
        failures = "; ".join(f"{type(e[0]).__name__}: {e[0]}" for e in error.failures.values())
        raise RuntimeError(failures or str(error)) from error
