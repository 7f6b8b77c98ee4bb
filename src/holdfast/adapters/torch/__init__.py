"""torch: tensors, modules, optimizers, random number generators."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from holdfast.adapters.torch import arrays, copying, files
from holdfast.adapters.torch.arrays import TorchLeaf
from holdfast.adapters.torch.module_source import ModuleSource
from holdfast.adapters.torch.modules import match_module
from holdfast.adapters.torch.optimizer_source import OptimizerSource
from holdfast.adapters.torch.optimizers import match_optimizer, speaks_torch
from holdfast.adapters.torch.sightings import TorchSighting
from holdfast.frameworks import Framework, Leaf, Match, Sighting, StoredArray, Transfer

_log = logging.getLogger(__name__)


class _Torch:
    """`frameworks.Framework` for torch."""

    name = "torch"

    def __init__(self) -> None:
        self._updates = 0
        self._before: tuple[Callable[[], None], ...] = ()
        register_optimizer_step_pre_hook(self._call_before)
        register_optimizer_step_post_hook(self._count)

    def _call_before(self, *_: object) -> None:
        for call in self._before:
            call()

    def _count(self, *_: object) -> None:
        self._updates += 1

    def leaf(self, value: object, *, detached: bool = False) -> Leaf | None:
        """See `frameworks.Framework.leaf`."""
        return TorchLeaf(value, plain=detached) if isinstance(value, torch.Tensor) else None

    def sight(self, leaves: Sequence[Leaf]) -> Sighting:
        """See `frameworks.Framework.sight`."""
        return TorchSighting(leaves)

    def prepare_copy(
        self, leaves: Sequence[Leaf], buffers: Sequence[memoryview]
    ) -> Callable[[Sequence[Leaf]], Transfer | None]:
        """See `frameworks.Framework.prepare_copy`."""
        return copying.prepare_copy(leaves, buffers)

    def pin(self, memory: memoryview) -> Callable[[], None] | None:
        """See `frameworks.Framework.pin`."""
        return copying.pin(memory)

    def build(self, stored: StoredArray, buffer: memoryview, *, device: object) -> object:
        """See `frameworks.Framework.build`."""
        return arrays.build(stored, buffer, device=device)

    def cast(self, array: object, dtype: object) -> object:
        """See `frameworks.Framework.cast`."""
        return arrays.cast(array, dtype)

    def source(self, obj: object, *, path: str) -> Callable[[], object] | None:
        """See `frameworks.Framework.source`."""
        if isinstance(obj, nn.Module):
            return ModuleSource(obj, path)
        if isinstance(obj, Optimizer) and speaks_torch(obj):
            return OptimizerSource(obj)
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

    def resting(self, obj: object) -> Literal["all", "parameters"] | None:
        """See `frameworks.Framework.resting`.

        A module's buffers may change in any forward pass.
        """
        if isinstance(obj, nn.Module):
            return "parameters"
        return "all" if isinstance(obj, Optimizer) else None

    def before_updates(self, call: Callable[[], None]) -> Callable[[], None]:
        """See `frameworks.Framework.before_updates`."""
        self._before = (*self._before, call)

        def end() -> None:
            self._before = tuple(other for other in self._before if other is not call)

        return end

    def updates(self) -> int:
        """See `frameworks.Framework.updates`."""
        return self._updates


FRAMEWORK: Framework = _Torch()
