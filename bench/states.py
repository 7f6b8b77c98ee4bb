"""The states that are saved: tensors of which every one changes between two saves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn


class Layers(nn.Module):
    """A model of so many equal float32 parameters, and nothing to compute."""

    def __init__(self, nbytes: int, tensors: int, *, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        size = max(1, nbytes // 4 // tensors)
        for i in range(tensors):
            self.register_parameter(
                f"layer{i}", nn.Parameter(torch.randn(size, generator=generator))
            )


class State:
    """A model, and its tensors by name as other tools take them (the same memory).

    Args:
        nbytes: In all.
        tensors: How many.
        seed: The same one gives the same values, in another process, too.
    """

    def __init__(self, nbytes: int, tensors: int, *, seed: int = 0) -> None:
        self.model = Layers(nbytes, tensors, seed=seed)
        self.tensors: dict[str, torch.Tensor] = {
            name: parameter.detach() for name, parameter in self.model.named_parameters()
        }
        self.nbytes = sum(tensor.nbytes for tensor in self.tensors.values())

    def advance(self) -> None:
        """Changes all of it, on one core: torch's threads wait long for a core that is busy."""
        for tensor in self.tensors.values():
            numbers = tensor.numpy()
            np.add(numbers, np.float32(1e-3), out=numbers)

    def zero(self) -> None:
        """Forgets all of it."""
        for tensor in self.tensors.values():
            tensor.zero_()

    def require_equal(self, other: Mapping[str, object]) -> None:
        """Raises unless another state is the same, to the bit."""
        if set(other) != set(self.tensors):
            raise ValueError(f"{len(other)} tensors came back instead of {len(self.tensors)}")
        for name, tensor in self.tensors.items():
            if not torch.equal(torch.as_tensor(other[name]), tensor):
                raise ValueError(f"{name} came back with other values")


def shape_name(tensors: int) -> str:
    """Returns what the tables call a number of tensors."""
    return f"{tensors:,} tensors"
