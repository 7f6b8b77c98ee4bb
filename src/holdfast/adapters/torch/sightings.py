"""Tensors as they were when they were last looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import torch

from holdfast.adapters.torch.arrays import TorchLeaf
from holdfast.frameworks import Leaf

#: What ``x.data = y``, ``set_()``, ``resize_()`` and ``requires_grad_()`` change in one object,
#: and what tells two objects apart. Each is asked of all tensors in one go: a loop in Python would
#: take longer.
_LOOKS: Sequence[Callable[[torch.Tensor], object]] = (
    torch.Tensor.data_ptr,
    attrgetter("shape"),
    torch.Tensor.stride,
    attrgetter("dtype"),
    attrgetter("requires_grad"),
    torch.Tensor.is_neg,
)
#: A mode such as the one of ``torch.set_default_device()`` has no say in what a tensor is, and
#: makes each look ten times as long.
_plainly = torch._C.DisableTorchFunction


class TorchSighting:
    """See `frameworks.Sighting`.

    There is no weak reference in it: ``torch.utils.swap_tensors`` refuses a tensor that has one.
    A dense tensor of the same class with the same memory, shape, strides and dtype is the same to
    a leaf, whether it is the same object or not; only one without elements is nothing but itself,
    and counts as changed each time. Other kinds have no strides, or no memory, to be asked for.

    Args:
        leaves: Leaves of tensors as they are now.
    """

    def __init__(self, leaves: Sequence[Leaf]) -> None:
        known = [_own(leaf) for leaf in leaves]
        tensors = [leaf.live for leaf in known]
        self._forms = [leaf.form for leaf in known]
        with _plainly():
            self._columns = [list(map(look, tensors)) for look in _LOOKS]
        self._empty = {index for index, leaf in enumerate(known) if leaf.nbytes == 0}
        # No other dtype knows conjugation, and it costs as much to ask as anything else.
        self._conjugated = {
            index: tensor.is_conj() for index, tensor in enumerate(tensors) if tensor.is_complex()
        }

    def changed(self, arrays: Sequence[Any]) -> list[int]:
        """See `frameworks.Sighting.changed`."""
        try:
            with _plainly():
                return sorted(self._changed(arrays))
        except (RuntimeError, NotImplementedError):
            # One of them is sparse by now, or nested: looked at by itself, it says so.
            return list(range(len(arrays)))

    def _changed(self, arrays: Sequence[torch.Tensor]) -> set[int]:
        changed = set(self._empty)
        for look, column in zip(_LOOKS, self._columns, strict=True):
            now = list(map(look, arrays))
            if now != column:
                pairs = zip(now, column, strict=True)
                changed.update(at for at, (one, other) in enumerate(pairs) if one != other)
        changed.update(
            at for at, before in self._conjugated.items() if arrays[at].is_conj() != before
        )
        return changed

    def renew(self, index: int, leaf: Leaf) -> None:
        """See `frameworks.Sighting.renew`."""
        known = _own(leaf)
        self._forms[index] = known.form
        for look, column in zip(_LOOKS, self._columns, strict=True):
            column[index] = look(known.live)
        if index in self._conjugated:
            self._conjugated[index] = known.live.is_conj()

    def leaves(self, arrays: Sequence[Any]) -> Sequence[Leaf]:
        """See `frameworks.Sighting.leaves`."""
        return list(map(TorchLeaf, arrays, self._forms))


def _own(leaf: Leaf) -> TorchLeaf:
    if not isinstance(leaf, TorchLeaf):
        raise TypeError(f"{type(leaf).__name__} is not a leaf of torch")
    return leaf
