"""torch optimizers: their state comes back as it was stored, and not as torch would cast it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import torch
from torch.optim import Optimizer

from holdfast.adapters.torch.arrays import TorchLeaf
from holdfast.errors import TreeError
from holdfast.frameworks import Build, Match, StoredArray
from holdfast.items import arrays_in
from holdfast.tree import replace_arrays

#: How a step is computed, not what has been learnt: these stay as the live optimizer has them,
#: so that a run can resume on other hardware.
IMPLEMENTATION_FLAGS = ("foreach", "fused", "capturable", "differentiable")

_CPU = torch.device("cpu")

#: State of torch's own optimizers that has the shape of its parameter.
_LIKE_PARAMETER = frozenset(
    {
        "acc_delta", "ax", "eta", "exp_avg", "exp_avg_sq", "exp_inf", "grad_avg",
        "max_exp_avg_sq", "momentum_buffer", "mu_product", "prev", "square_avg", "step_size", "sum",
    }
)  # fmt: skip


def speaks_torch(optimizer: Optimizer) -> bool:
    """Returns whether saving and loading are torch's own, and not an override."""
    kind = type(optimizer)
    return (
        kind.state_dict is Optimizer.state_dict
        and kind.load_state_dict is Optimizer.load_state_dict
    )


def match_optimizer(optimizer: Optimizer, stored: object, *, path: str) -> Match:
    """Returns how a stored state fits an optimizer; see `frameworks.Framework.match`.

    Parameters are told apart by their places in the groups, as torch does. Live state that fits
    is read in place, so that no second copy of it exists meanwhile; the rest is built anew.
    """
    arrays = arrays_in(stored)
    problems = tuple(_problems(optimizer, stored, path))
    kept = {} if problems else _fitting(optimizer, stored, arrays)

    def apply(build: Build) -> None:
        def live_or_new(array: StoredArray) -> object:
            return kept[array].live if array in kept else build(array)

        _load(optimizer, replace_arrays(stored, live_or_new))

    values = tuple(array for array in arrays if array not in kept)
    return Match(
        problems, tuple(kept.items()), values, apply, tuple(array.name for array in arrays)
    )


def _fitting(
    optimizer: Optimizer, stored: Any, arrays: tuple[StoredArray, ...]
) -> dict[StoredArray, TorchLeaf]:
    """Returns the live tensors of the state that what is stored can be read into.

    These are what loading would put there in any case: of the same shape and dtype, on the device
    that torch would choose, and nobody else's memory. An optimizer with hooks on loading gets its
    state through them.
    """
    if optimizer._optimizer_load_state_dict_pre_hooks:
        return {}
    if optimizer._optimizer_load_state_dict_post_hooks:
        return {}
    places = Counter(array.name for array in arrays)
    found: dict[StoredArray, TorchLeaf] = {}
    for then, now in zip(stored["param_groups"], optimizer.param_groups, strict=True):
        on_device = bool(now.get("capturable") or now.get("fused"))
        for key, parameter in zip(then["params"], now["params"], strict=True):
            entry = stored["state"].get(key)
            live = optimizer.state.get(parameter)
            if not isinstance(entry, dict) or not isinstance(live, dict):
                continue
            for name, array in entry.items():
                tensor = live.get(name)
                if not isinstance(array, StoredArray) or places[array.name] > 1:
                    continue
                # Where torch keeps the count of steps; see Optimizer.load_state_dict.
                device = _CPU if name == "step" and not on_device else parameter.device
                leaf = _leaf(tensor)
                if leaf is not None and leaf.live.device == device and _alike(leaf, array):
                    found[array] = leaf
    owners = Counter(_storage(leaf.live) for leaf in found.values())
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            owners[_storage(parameter)] += 1
            if parameter.grad is not None:
                owners[_storage(parameter.grad)] += 1
    return {array: leaf for array, leaf in found.items() if owners[_storage(leaf.live)] == 1}


def _leaf(value: object) -> TorchLeaf | None:
    if not isinstance(value, torch.Tensor):
        return None
    try:
        return TorchLeaf(value)
    except TreeError:
        # Built anew, then: what is stored can always be.
        return None


def _alike(leaf: TorchLeaf, array: StoredArray) -> bool:
    return not leaf.problem and leaf.node(array.name) == array.node


def _storage(tensor: torch.Tensor) -> Hashable:
    # An empty tensor has no memory that it could share.
    storage = tensor.untyped_storage() if tensor.layout is torch.strided else None
    pointer = storage.data_ptr() if storage is not None else 0
    return (tensor.device, pointer) if pointer else id(tensor)


def _problems(optimizer: Optimizer, stored: Any, path: str) -> Iterator[str]:
    if not _is_state(stored):
        yield f"{path}: not the state of an optimizer in the checkpoint"
        return
    groups, live = stored["param_groups"], optimizer.param_groups
    if len(groups) != len(live):
        yield f"{path}.param_groups: {len(groups)} groups in the checkpoint, {len(live)} here"
        return
    for index, (then, now) in enumerate(zip(groups, live, strict=True)):
        if len(then["params"]) != len(now["params"]):
            yield (
                f"{path}.param_groups[{index}].params: {len(then['params'])} parameters in the "
                f"checkpoint, {len(now['params'])} here"
            )
            continue
        if type(optimizer).__module__.startswith("torch.optim."):
            for key, parameter in zip(then["params"], now["params"], strict=True):
                yield from _shape_problems(stored["state"], key, parameter, path)


def _is_state(stored: Any) -> bool:
    if not isinstance(stored, dict) or not isinstance(stored.get("state"), dict):
        return False
    groups = stored.get("param_groups")
    return (
        isinstance(groups, list)
        and all(isinstance(group, dict) for group in groups)
        and all(isinstance(group.get("params"), list) for group in groups)
        and all(type(key) is int for group in groups for key in group["params"])
    )


def _shape_problems(
    state: Mapping[Any, Any], key: int, parameter: torch.Tensor, path: str
) -> Iterator[str]:
    entry = state.get(key, {})
    for name, value in entry.items() if isinstance(entry, dict) else ():
        if name in _LIKE_PARAMETER and isinstance(value, StoredArray):
            shape = value.node["shape"]
            if shape != list(parameter.shape) and shape != []:
                yield (
                    f"{path}.state[{key}].{name}: shape {shape} in the checkpoint, "
                    f"{list(parameter.shape)} here"
                )


def _load(optimizer: Optimizer, state: Any) -> None:
    groups = zip(state["param_groups"], optimizer.param_groups, strict=True)
    owners: dict[int, torch.Tensor] = {}
    for then, now in groups:
        then.update({flag: now[flag] for flag in IMPLEMENTATION_FLAGS if flag in now})
        for name, value in then.items():
            # A learning rate on the device, for instance, has to stay there.
            if isinstance(value, torch.Tensor) and isinstance(now.get(name), torch.Tensor):
                then[name] = value.to(now[name].device)
        owners.update(zip(then["params"], now["params"], strict=True))
    optimizer.load_state_dict(state)
    for key, parameter in owners.items():
        entry = state["state"].get(key)
        if isinstance(entry, dict) and parameter in optimizer.state:
            loaded = optimizer.state[parameter]
            for name in entry.keys() & loaded.keys():
                loaded[name] = _exact(loaded[name], entry[name])


def _exact(loaded: Any, stored: Any) -> Any:
    """Returns what was stored, on the device that torch chose for it.

    `Optimizer.load_state_dict` casts floating state to the parameter's dtype, which takes the
    precision from the fp32 moments of bf16 parameters.
    """
    if isinstance(loaded, torch.Tensor) and isinstance(stored, torch.Tensor):
        return loaded if loaded.dtype == stored.dtype else stored.to(loaded.device)
    if isinstance(loaded, dict) and isinstance(stored, dict):
        for name in stored.keys() & loaded.keys():
            loaded[name] = _exact(loaded[name], stored[name])
    elif type(loaded) is type(stored) and type(loaded) in (list, tuple):
        parts = zip(loaded, stored, strict=True)
        return type(loaded)(_exact(before, after) for before, after in parts)
    return loaded
