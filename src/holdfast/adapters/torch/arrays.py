"""torch tensors as leaves, and back."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Sequence
from functools import cached_property

import torch
from torch.nn.parameter import is_lazy

from holdfast.errors import ConfigError, TreeError
from holdfast.frameworks import Leaf, Node, StoredArray, stored_nbytes
from holdfast.tree.dtypes import TENSOR, stored_of_tensor


class TorchLeaf:
    """A torch tensor as a `Leaf`.

    Args:
        tensor: Dense, on a real device, of a dtype that the format knows.
        plain: Whether it comes back without requiring a gradient, and another must never take
            its place: so are the parameters and buffers of a module.

    Raises:
        TreeError: It cannot be stored; the hint says what to do instead.
    """

    framework = "torch"

    def __init__(self, tensor: torch.Tensor, *, plain: bool = False) -> None:
        refuse_unstorable(tensor)
        self.live = tensor
        self.tensor = tensor.detach()
        self._plain = plain
        self._name = dtype_name(tensor.dtype)
        self.dtype, self.shape = stored_of_tensor(self._name, tuple(tensor.shape))
        self.nbytes = stored_nbytes(self.dtype, self.shape)

    @property
    def stable(self) -> bool:
        """Whether it is a frozen parameter."""
        return isinstance(self.live, torch.nn.Parameter) and not self.live.requires_grad

    @property
    def fixed(self) -> bool:
        """Whether something else may hold on to it, so that another cannot take its place."""
        return self._plain or self.live.requires_grad or isinstance(self.live, torch.nn.Parameter)

    @cached_property
    def identity(self) -> Hashable:
        """Same memory, shape, strides and dtype; an empty tensor is only ever itself."""
        tensor = self.tensor
        if tensor.numel() == 0:
            return ("torch", id(self.live))
        return (
            "torch", tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), self._name,
            tensor.is_conj(), tensor.is_neg(),
        )  # fmt: skip

    @property
    def problem(self) -> str:
        """Why nothing can be written into it."""
        if any(
            stride == 0 and size > 1
            for size, stride in zip(self.tensor.shape, self.tensor.stride(), strict=True)
        ):
            return "the live tensor is expanded: several of its elements are one place in memory"
        return ""

    def node(self, name: str) -> Node:
        """Returns the skeleton's node for it under a name."""
        node: Node = {
            "$": "tensor", "array": name, "dtype": self._name, "shape": list(self.tensor.shape),
        }  # fmt: skip
        if not self._plain and self.live.requires_grad:
            node["requires_grad"] = True
        if isinstance(self.live, torch.nn.Parameter):
            node["parameter"] = True
        return node

    def memory(self) -> memoryview | None:
        """Returns its writable bytes where it is contiguous in the host's memory, else None."""
        tensor = self.tensor
        if tensor.numel() == 0:
            return memoryview(bytearray())
        odd = tensor.is_conj() or tensor.is_neg() or self.problem
        if tensor.device.type != "cpu" or not tensor.is_contiguous() or odd:
            return None
        # Not reshape(): a dimension of size 1 keeps a stride that view() then stumbles over.
        line = tensor.as_strided((tensor.numel(),), (1,))
        return line.view(torch.uint8).numpy().data

    def write(self, source: memoryview) -> None:
        """Copies stored bytes into it."""
        if self.tensor.numel():
            with torch.no_grad():
                same_bits(self.tensor).copy_(
                    same_bits(_on_buffer(source, self.tensor.dtype, self.tensor.shape))
                )

    def touched(self) -> None:
        """Counts its version up.

        A backward pass over the old values then fails, as after any other change in place.
        """
        if not self.tensor.is_inference():
            torch.autograd.graph.increment_version(self.tensor)


def dtype_name(dtype: torch.dtype) -> str:
    """Returns the name of a dtype, without ``torch.``."""
    return str(dtype).removeprefix("torch.")


def refuse_unstorable(tensor: torch.Tensor) -> None:
    """Raises `TreeError` for a tensor that has no bytes of its own, or could not come back."""
    reason = hint = ""
    if is_lazy(tensor):
        reason, hint = "is not initialized yet", "run one forward pass before attaching it"
    elif _is_distributed(tensor):
        reason, hint = "is a DTensor, one part of a sharded tensor", "store its full_tensor()"
    elif type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        reason, hint = f"is a {type(tensor)}", "store a plain tensor, made from it"
    elif tensor.is_nested:
        reason, hint = "is a nested tensor", "store its unbind() as a list"
    elif tensor.layout != torch.strided:
        reason, hint = f"is sparse ({tensor.layout})", "store its to_dense(), or its parts"
    elif tensor.is_quantized:
        reason, hint = "is quantized", "store its int_repr(), scale and zero point"
    elif tensor.device.type == "meta":
        reason, hint = "is on the meta device and has no values", "materialise it first"
    elif dtype_name(tensor.dtype) not in TENSOR:
        reason, hint = f"has the dtype {tensor.dtype}", "convert it with .to(...)"
    if reason:
        raise TreeError(f"the tensor {reason}, and cannot be stored", hint=hint)


def _is_distributed(tensor: torch.Tensor) -> bool:
    # Importing the module takes most of a second; while nobody has, there is no such tensor.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def same_bits(tensor: torch.Tensor) -> torch.Tensor:
    """Returns a tensor of bytes where an element is one byte, else the tensor itself.

    Not all such dtypes can be copied, and what becomes of a bool that is neither 0 nor 1 must not
    be left to the compiler.
    """
    return tensor.view(torch.uint8) if tensor.element_size() == 1 else tensor


def _on_buffer(buffer: memoryview, dtype: torch.dtype, shape: Sequence[int]) -> torch.Tensor:
    if buffer.nbytes == 0:
        return torch.empty(tuple(shape), dtype=dtype)
    return torch.frombuffer(buffer, dtype=torch.uint8).view(dtype).view(tuple(shape))


def copy_into(leaves: Sequence[Leaf], buffers: Sequence[memoryview]) -> None:
    """Copies tensors into writable host buffers; see `frameworks.Framework.copy_into`.

    The copies from a device block: they are ordered after the work of the current stream.
    """
    targets: list[torch.Tensor] = []
    sources: list[torch.Tensor] = []
    for leaf, buffer in zip(leaves, buffers, strict=True):
        if not isinstance(leaf, TorchLeaf):
            raise TypeError(f"{type(leaf).__name__} is not a leaf of torch")
        if buffer.nbytes:
            tensor = leaf.tensor
            targets.append(same_bits(_on_buffer(buffer, tensor.dtype, tensor.shape)))
            sources.append(same_bits(tensor))
    if targets:
        with torch.no_grad():
            torch._foreach_copy_(targets, sources)


def build(stored: StoredArray, buffer: memoryview, *, device: object) -> torch.Tensor:
    """Returns a tensor on a writable buffer; see `frameworks.Framework.build`."""
    node = stored.node
    tensor = _on_buffer(buffer, find_dtype(node["dtype"]), stored.shape)
    if device is not None:
        tensor = tensor.to(_device(device))
    wants_grad = "requires_grad" in node
    if "parameter" in node:
        return torch.nn.Parameter(tensor, requires_grad=wants_grad)
    return tensor.requires_grad_() if wants_grad else tensor


def cast(array: object, dtype: object) -> object:
    """Returns a floating tensor in another dtype, any other as it is."""
    if not isinstance(array, torch.Tensor) or not array.is_floating_point():
        return array
    wants_grad = array.requires_grad
    fresh = array.detach().to(find_dtype(dtype))
    if isinstance(array, torch.nn.Parameter):
        return torch.nn.Parameter(fresh, requires_grad=wants_grad)
    return fresh.requires_grad_() if wants_grad else fresh


def find_dtype(dtype: object) -> torch.dtype:
    """Returns a dtype by its name, or as it is.

    Raises:
        ConfigError: The installed torch has none of that name.
    """
    found = dtype if isinstance(dtype, torch.dtype) else getattr(torch, str(dtype), None)
    if isinstance(found, torch.dtype):
        return found
    raise ConfigError(
        f"torch {torch.__version__} has no dtype {dtype!r}",
        hint='pass one of its own, such as "bfloat16", or install a newer torch',
    )


def _device(device: object) -> torch.device:
    if isinstance(device, torch.device):
        return device
    try:
        return torch.device(device if isinstance(device, int) else str(device))
    except (RuntimeError, TypeError) as error:
        raise ConfigError(
            f"torch knows no device {device!r}", hint='pass "cpu", "cuda:0" or a torch.device'
        ) from error
