"""Where the state of a module lies, remembered from one save to the next.

``state_dict()`` walks the modules in Python and builds everything anew: milliseconds for a model
of some thousand tensors. While a module's tree is what it was, and nothing in it saves in a way of
its own, its tensors are picked out of the very dicts that ``state_dict()`` would look into.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate, chain, repeat
from operator import call, contains, is_, itemgetter, methodcaller
from typing import Any

import torch
from torch import nn

from holdfast.adapters.torch.modules import module_state
from holdfast.tree import Detached

_PARTS = (
    "_parameters", "_buffers", "_modules", "_non_persistent_buffers_set", "_state_dict_hooks",
    "_state_dict_pre_hooks",
)  # fmt: skip
_OVERRIDES = ("state_dict", "_save_to_state_dict")
_values = methodcaller("values")


class ModuleSource:
    """Reads the state of a module, again and again.

    Args:
        module: The module.
        path: What messages call it.
    """

    def __init__(self, module: nn.Module, path: str) -> None:
        self._module = module
        self._path = path
        self._map: _ModuleMap | None = None
        self._asked = False

    def __call__(self) -> Detached:
        """Returns what `module_state` returns.

        Raises:
            TreeError: As there.
        """
        if self._map is not None:
            state = self._map.state(self._module)
            if state is not None:
                return state
        state = module_state(self._module, self._path)
        # Nothing is remembered for whoever asks once.
        self._map = _ModuleMap.of(self._module, state) if self._asked else None
        self._asked = True
        return state


class _Parts:
    """What the modules of a tree are made of, each list in breadth-first order.

    Raises:
        KeyError: One of them is no module of the usual kind.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.vars = list(map(vars, modules))
        rows = list(map(itemgetter(*_PARTS), self.vars))
        columns: Any = zip(*rows, strict=True)
        self.parameters, self.buffers, self.children, self.passing, *self.hooks = columns

    def keys(self) -> list[tuple[list[str], list[int]]]:
        """Returns names and how many each module has: of parameters, buffers and children."""
        return [
            (list(chain.from_iterable(filter(None, dicts))), list(map(len, dicts)))
            for dicts in (self.parameters, self.buffers, self.children)
        ]

    def below(self) -> list[nn.Module]:
        """Returns all children."""
        modules = _all_values(self.children)
        absent = any(map(is_, modules, repeat(None)))
        return [module for module in modules if module is not None] if absent else modules

    def tensors(self) -> list[torch.Tensor | None]:
        """Returns all parameters, then all buffers."""
        return _all_values(self.parameters) + _all_values(self.buffers)

    def saves_by_itself(self) -> bool:
        """Whether a hook, or a function put into one of the modules, has a say."""
        return any(map(any, self.hooks)) or any(
            any(map(contains, self.vars, repeat(name))) for name in _OVERRIDES
        )


def _all_values(dicts: Iterable[Mapping[str, Any]]) -> list[Any]:
    # Most modules have no children, and hardly any has buffers.
    return list(chain.from_iterable(map(_values, filter(None, dicts))))


class _ModuleMap:
    """Where the entries of a module's state lie, good while the tree of modules is the same.

    Args:
        modules: The modules in breadth-first order, one that is met twice twice.
        names: Names of the entries, in the order of the state.

    Raises:
        KeyError: As from `_Parts`.
    """

    def __init__(self, modules: Sequence[nn.Module], names: Sequence[str]) -> None:
        parts = _Parts(modules)
        tensors = parts.tensors()
        places = _places(parts)
        self._modules = list(map(weakref.ref, modules))
        self._kinds = list(map(type, modules))
        self._keys = parts.keys()
        self._passing = list(map(frozenset, parts.passing))
        self._names = names
        self._present = _picker([index for index in places if tensors[index] is not None])
        self._absent = _picker([index for index in places if tensors[index] is None])

    @classmethod
    def of(cls, module: nn.Module, state: Detached) -> _ModuleMap | None:
        """Returns where a state was taken from; None where the module saves in its own way."""
        modules = [module]
        for here in modules:
            modules.extend(child for child in here._modules.values() if child is not None)
        try:
            found = cls(modules, list(state))
        except KeyError:
            return None
        again = found.state(module)
        return found if again is not None and same_values(again, state) else None

    def state(self, module: nn.Module) -> Detached | None:
        """Returns the state, or None when the tree has changed."""
        modules: Any = list(map(call, self._modules))
        if modules[0] is not module or list(map(type, modules)) != self._kinds:
            return None
        if not all(map(_is_plain, set(self._kinds))):
            return None
        try:
            parts = _Parts(modules)
        except KeyError:
            return None
        below = parts.below()
        if (
            parts.keys() != self._keys
            or len(below) != len(modules) - 1
            or not all(map(is_, below, modules[1:]))
            or list(parts.passing) != self._passing
            or parts.saves_by_itself()
        ):
            return None
        tensors = parts.tensors()
        present, absent = self._present(tensors), self._absent(tensors)
        if any(map(is_, present, repeat(None))) or not all(map(is_, absent, repeat(None))):
            return None
        return Detached(zip(self._names, present, strict=True))


def _is_plain(kind: type[nn.Module]) -> bool:
    """Returns whether modules of a class save what lies in their dicts and nothing else."""
    return (
        kind.state_dict is nn.Module.state_dict
        and kind._save_to_state_dict is nn.Module._save_to_state_dict
        and getattr(kind, "get_extra_state", None) is nn.Module.get_extra_state
        and not any(hasattr(kind, name) for name in _PARTS)
    )


def _places(parts: _Parts) -> list[int]:
    """Returns the indexes in `_Parts.tensors` of what a state holds, in the state's order.

    Those that are None are among them; a state leaves them out.
    """
    counts = [len(dicts) for dicts in chain(parts.parameters, parts.buffers)]
    begins = list(accumulate(counts, initial=0))
    buffers = len(parts.parameters)
    present = [sum(child is not None for child in part.values()) for part in parts.children]
    first = list(accumulate(present, initial=1))
    places: list[int] = []
    todo = [0]
    while todo:
        here = todo.pop()
        places.extend(range(begins[here], begins[here] + len(parts.parameters[here])))
        places.extend(
            index
            for index, name in enumerate(parts.buffers[here], begins[buffers + here])
            if name not in parts.passing[here]
        )
        todo.extend(reversed(range(first[here], first[here + 1])))
    return places


def _picker(indexes: Sequence[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    if len(indexes) > 1:
        return itemgetter(*indexes)
    return lambda values: [values[index] for index in indexes]


def same_values(one: Mapping[Any, object], other: Mapping[Any, object]) -> bool:
    """Returns whether two dicts have equal keys and the very same values, in the same order."""
    return list(one) == list(other) and all(map(is_, one.values(), other.values()))
