"""How the state of an optimizer is put together, remembered from one save to the next."""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch
from torch.optim import Optimizer

from holdfast.adapters.torch.module_source import same_values
from holdfast.adapters.torch.optimizers import speaks_torch


class OptimizerSource:
    """Reads the state of an optimizer, again and again.

    Args:
        optimizer: One whose ``state_dict()`` is torch's own.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._map: _OptimizerMap | None = None
        self._asked = False

    def __call__(self) -> object:
        """Returns what ``state_dict()`` returns."""
        optimizer = self._optimizer
        if _has_say(optimizer):
            return optimizer.state_dict()
        if self._map is not None:
            state = self._map.state(optimizer)
            if state is not None:
                return state
        state = optimizer.state_dict()
        self._map = _OptimizerMap.of(optimizer, state) if self._asked else None
        self._asked = True
        return state


def _has_say(optimizer: Optimizer) -> bool:
    """Returns whether anything but torch's own code decides what the state is."""
    own = vars(optimizer)
    hooks = ("_optimizer_state_dict_pre_hooks", "_optimizer_state_dict_post_hooks")
    return (
        not speaks_torch(optimizer)
        or "state_dict" in own
        or any(own.get(name) is None or len(own[name]) > 0 for name in hooks)
    )


class _OptimizerMap:
    """Which number stands for which parameter, good while groups and keys are the same.

    Args:
        groups: The parameters of each group.
        numbers: The numbers that stand for them.
        owners: The parameters that have a state, in its order.
        keys: What stands for these.
    """

    def __init__(
        self,
        groups: list[list[torch.Tensor]],
        numbers: list[list[int]],
        owners: list[torch.Tensor],
        keys: list[int],
    ) -> None:
        # torch tells parameters apart by their ids, too; a weak reference would forbid
        # torch.utils.swap_tensors.
        self._groups = [list(map(id, group)) for group in groups]
        self._numbers = numbers
        self._owners = list(map(id, owners)), list(map(type, owners))
        self._keys = keys

    @classmethod
    def of(cls, optimizer: Optimizer, state: Any) -> _OptimizerMap | None:
        """Returns how a state came about; None where it is not built as torch builds it."""
        owners = list(optimizer.state)
        groups = [group["params"] for group in optimizer.param_groups]
        tensors = all(isinstance(part, torch.Tensor) for part in chain(owners, *groups))
        if not tensors or list(state) != ["state", "param_groups"]:
            return None
        numbers = [group["params"] for group in state["param_groups"]]
        found = cls(groups, numbers, owners, list(state["state"]))
        again = found.state(optimizer)
        return found if again is not None and _alike(again, state) else None

    def state(self, optimizer: Optimizer) -> dict[str, object] | None:
        """Returns the state, or None when groups or keys have changed."""
        groups = optimizer.param_groups
        owners = list(map(id, optimizer.state)), list(map(type, optimizer.state))
        if owners != self._owners:
            return None
        if [list(map(id, group["params"])) for group in groups] != self._groups:
            return None
        packed = []
        for group, numbers in zip(groups, self._numbers, strict=True):
            one = {name: value for name, value in group.items() if name != "params"}
            one["params"] = numbers
            packed.append(one)
        state = dict(zip(self._keys, optimizer.state.values(), strict=True))
        return {"state": state, "param_groups": packed}


def _alike(one: Any, other: Any) -> bool:
    """Returns whether two states of an optimizer hold the very same values in the same order."""
    groups, twins = one["param_groups"], other["param_groups"]
    return (
        same_values(one["state"], other["state"])
        and len(groups) == len(twins)
        and all(map(same_values, groups, twins))
    )
