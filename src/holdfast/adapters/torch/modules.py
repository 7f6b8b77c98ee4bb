"""torch modules: their parameters and buffers under bare names, restored in place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from holdfast.adapters.torch.arrays import TorchLeaf
from holdfast.errors import TreeError
from holdfast.fitting import misfit, no_values
from holdfast.frameworks import Build, Leaf, Match, StoredArray
from holdfast.items import arrays_in
from holdfast.tree import Detached, replace_arrays

_COMPILED = "_orig_mod"
_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)
_EXTRA = "_extra_state"


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    """One entry of a module's ``state_dict``.

    Attributes:
        key: What the module calls it, wrappers' prefixes included.
        value: The very parameter or buffer, or an extra state.
        extra: Whether it is what ``get_extra_state()`` returned.
    """

    key: str
    value: object
    extra: bool


def module_state(module: nn.Module, path: str) -> Detached:
    """Returns parameters, persistent buffers and extra states, by their bare names.

    Raises:
        TreeError: Two of them have one name once the wrappers' prefixes are off.
    """
    entries = _entries(module, path)
    return Detached(
        ((name, entry.value) for name, entry in entries.items()),
        whole=frozenset(name for name, entry in entries.items() if entry.extra),
    )


def _entries(module: nn.Module, path: str) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    for key, value in module.state_dict(keep_vars=True).items():
        name = bare_name(module, key)
        if name in entries:
            other = entries[name].key
            message = f"{path}: {key!r} and {other!r} are both {name!r} without their wrappers"
            raise TreeError(message, hint="rename one of the submodules", problems=(message,))
        entries[name] = _Entry(key, value, key.rpartition(".")[2] == _EXTRA)
    return entries


def bare_name(module: nn.Module, key: str) -> str:
    """Returns a key of ``state_dict()`` without what wrappers put into it.

    That is ``_orig_mod`` of ``torch.compile`` anywhere, and ``module`` where it is the child of a
    data parallel wrapper.
    """
    if _COMPILED not in key and "module" not in key:
        return key
    kept = []
    here: nn.Module | None = module
    for part in key.split("."):
        wrapped = part == _COMPILED or (part == "module" and isinstance(here, _PARALLEL))
        if not wrapped:
            kept.append(part)
        here = here._modules.get(part) if here is not None else None
    return ".".join(kept)


def match_module(module: nn.Module, stored: object, *, path: str, partial: bool) -> Match:
    """Returns how a stored state fits a module; see `frameworks.Framework.match`.

    Tensors are restored into the parameters and buffers themselves. A module that loads in a way
    of its own (its ``load_state_dict``, hooks, entries that are not its parameters) gets the
    stored state through ``load_state_dict()``.
    """
    if type(stored) is not dict:
        problem = f"{path}: {type(stored).__name__} in the checkpoint, a module here"
        return Match(() if partial else (problem,), (), (), no_values, ())
    entries = _entries(module, path)
    fit = _Fit(path, in_place=_is_plain(module, entries))
    for name, entry in entries.items():
        if name in stored:
            fit.add(name, entry, stored[name])
        else:
            fit.problems.append(f"{path}.{name}: missing in the checkpoint")
    for name in stored:
        if name not in entries:
            fit.problems.append(f"{path}.{name}: unexpected, the module has none of that name")

    def apply(build: Build) -> None:
        values = {entries[name].key: replace_arrays(stored[name], build) for name in fit.built}
        if fit.in_place:
            for key, value in values.items():
                module.get_submodule(key.rpartition(".")[0]).set_extra_state(value)
        else:
            module.load_state_dict(values, strict=not partial)

    arrays = arrays_in([stored[name] for name in fit.built])
    problems = () if partial else tuple(fit.problems)
    return Match(problems, tuple(fit.pairs), arrays, apply, tuple(fit.loaded))


class _Fit:
    """What of a stored state goes where."""

    def __init__(self, path: str, *, in_place: bool) -> None:
        self.in_place = in_place
        self.problems: list[str] = []
        self.pairs: list[tuple[StoredArray, Leaf]] = []
        self.built: list[str] = []
        self.loaded: list[str] = []
        self._path = path

    def add(self, name: str, entry: _Entry, stored: object) -> None:
        """Adds an entry that both sides have."""
        if entry.extra or not isinstance(entry.value, torch.Tensor):
            self.built.append(name)
            self.loaded.append(name)
            return
        reasons, leaf = _reasons(entry.value, stored)
        self.problems += [f"{self._path}.{name}: {reason}" for reason in reasons]
        if reasons or leaf is None:
            return
        self.loaded.append(name)
        if self.in_place and isinstance(stored, StoredArray):
            self.pairs.append((stored, leaf))
        else:
            self.built.append(name)


def _reasons(tensor: torch.Tensor, stored: object) -> tuple[tuple[str, ...], Leaf | None]:
    if not isinstance(stored, StoredArray):
        return (f"{type(stored).__name__} in the checkpoint, a tensor here",), None
    try:
        leaf = TorchLeaf(tensor, plain=True)
    except TreeError as error:
        return (f"{error.message}: {error.hint}",), None
    return misfit(stored, leaf), leaf


def _is_plain(module: nn.Module, entries: Mapping[str, _Entry]) -> bool:
    """Returns whether writing into the parameters and buffers is all that loading means."""
    live = {id(tensor) for tensor in _tensors(module)}
    own = all(entry.extra or id(entry.value) in live for entry in entries.values())
    return own and not any(_loads_by_itself(part) for part in module.modules())


def _tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    for part in module.modules():
        yield from (tensor for tensor in part._parameters.values() if tensor is not None)
        yield from (tensor for tensor in part._buffers.values() if tensor is not None)


def _loads_by_itself(part: nn.Module) -> bool:
    kind: Any = type(part)
    # torch's own overrides translate the names and shapes of older versions; checkpoints of
    # another shape are refused here anyway.
    foreign = (
        kind._load_from_state_dict is not nn.Module._load_from_state_dict
        and not kind._load_from_state_dict.__module__.startswith("torch.nn.")
    )
    hooks = part._load_state_dict_pre_hooks or part._load_state_dict_post_hooks
    return bool(foreign or hooks or kind.load_state_dict is not nn.Module.load_state_dict)
