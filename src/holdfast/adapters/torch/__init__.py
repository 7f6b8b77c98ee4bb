"""torch: tensors, modules, optimizers, random number generators."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from holdfast.adapters.torch import arrays, files
from holdfast.adapters.torch.arrays import TorchLeaf
from holdfast.adapters.torch.modules import Plain, match_module, module_state
from holdfast.adapters.torch.optimizers import match_optimizer, speaks_torch
from holdfast.frameworks import Framework, Leaf, Match, StoredArray

_log = logging.getLogger(__name__)


class _Torch:
    """`frameworks.Framework` for torch."""

    name = "torch"

    def __init__(self) -> None:
        self._updates = 0
        register_optimizer_step_post_hook(self._count)

    def _count(self, *_: object) -> None:
        self._updates += 1

    def leaf(self, value: object) -> Leaf | None:
        """See `frameworks.Framework.leaf`."""
        if isinstance(value, torch.Tensor):
            return TorchLeaf(value)
        return TorchLeaf(value.tensor, plain=True) if isinstance(value, Plain) else None

    def copy_into(self, leaves: Sequence[Leaf], buffers: Sequence[memoryview]) -> None:
        """See `frameworks.Framework.copy_into`."""
        arrays.copy_into(leaves, buffers)

    def build(self, stored: StoredArray, buffer: memoryview, *, device: object) -> object:
        """See `frameworks.Framework.build`."""
        return arrays.build(stored, buffer, device=device)

    def cast(self, array: object, dtype: object) -> object:
        """See `frameworks.Framework.cast`."""
        return arrays.cast(array, dtype)

    def state(self, obj: object, *, path: str) -> object | None:
        """See `frameworks.Framework.state`."""
        if isinstance(obj, nn.Module):
            return module_state(obj, path)
        if isinstance(obj, Optimizer) and speaks_torch(obj):
            return obj.state_dict()
        return None

    def match(self, obj: object, stored: object, *, path: str, partial: bool) -> Match | None:
        """See `frameworks.Framework.match`."""
        if isinstance(obj, nn.Module):
            return match_module(obj, stored, path=path, partial=partial)
        if isinstance(obj, Optimizer) and speaks_torch(obj):
            return match_optimizer(obj, stored, path=path)
        return None

    def rng_state(self) -> dict[str, object]:
        """See `frameworks.Framework.rng_state`.

        CUDA's are there once CUDA is in use; before, no number has been drawn on it.
        """
        state: dict[str, object] = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            state["cuda"] = torch.cuda.get_rng_state_all()
        return state

    def set_rng_state(self, state: Mapping[str, Any]) -> None:
        """See `frameworks.Framework.set_rng_state`.

        Devices that are not here are left out with a warning.
        """
        torch.set_rng_state(state["cpu"])
        stored = state.get("cuda", [])
        count = torch.cuda.device_count() if stored else 0
        for index, part in enumerate(stored):
            if index < count:
                torch.cuda.set_rng_state(part, index)
            else:
                _log.warning("The random state of cuda:%d is left out: it is not here", index)

    def write_file(self, state: object, path: Path) -> None:
        """See `frameworks.Framework.write_file`."""
        files.write_file(state, path)

    def read_file(self, path: Path) -> object:
        """See `frameworks.Framework.read_file`."""
        return files.read_file(path)

    def seeds(self) -> dict[str, object]:
        """See `frameworks.Framework.seeds`."""
        return {"cpu": torch.initial_seed()}

    def updates(self) -> int:
        """See `frameworks.Framework.updates`."""
        return self._updates


FRAMEWORK: Framework = _Torch()
