"""torch tensors as leaves, and back."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn.parameter import is_lazy

from holdfast.adapters.torch.arriving import DeviceSink
from holdfast.errors import ConfigError, TreeError
from holdfast.frameworks import Node, Sink, StoredArray, stored_nbytes
from holdfast.tree.dtypes import TENSOR, stored_of_tensor

#: The dtypes that can be stored, as far as the installed torch has them.
_NAMES: Mapping[torch.dtype, str] = {
    getattr(torch, name): name
    for name in TENSOR
    if isinstance(getattr(torch, name, None), torch.dtype)
}

#: Those of which numpy makes a plain view.
_OF_NUMPY = frozenset({torch.float32, torch.float64, torch.float16, torch.int64, torch.int32})


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """What a leaf knows of its tensor besides where it lies.

    Attributes:
        numbers: Name of its dtype.
        dtype: Stored dtype.
        shape: Stored shape.
        nbytes: Stored bytes.
        plain: As in `TorchLeaf`.
    """

    numbers: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    plain: bool


class TorchLeaf:
    """A torch tensor as a `Leaf`.

    Args:
        tensor: Dense, on a real device, of a dtype that the format knows.
        form: Of a tensor of this dtype and shape, where one is known: nothing is checked then.
        plain: Whether it comes back without requiring a gradient, and another must never take
            its place: so are the parameters and buffers of a module.

    Raises:
        TreeError: It cannot be stored; the hint says what to do instead.
    """

    __slots__ = ("form", "live")

    framework = "torch"

    def __init__(
        self, tensor: torch.Tensor, form: Form | None = None, *, plain: bool = False
    ) -> None:
        self.live = tensor
        self.form = form or _form(tensor, plain)

    @property
    def tensor(self) -> torch.Tensor:
        """The tensor without its history of gradients, on the same memory."""
        return self.live.detach()

    @property
    def dtype(self) -> str:
        """See `Leaf.dtype`."""
        return self.form.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """See `Leaf.shape`."""
        return self.form.shape

    @property
    def nbytes(self) -> int:
        """See `Leaf.nbytes`."""
        return self.form.nbytes

    @property
    def stable(self) -> bool:
        """Whether it is a frozen parameter."""
        return isinstance(self.live, torch.nn.Parameter) and not self.live.requires_grad

    @property
    def fixed(self) -> bool:
        """Whether something else may hold on to it, so that another cannot take its place."""
        tensor = self.live
        return self.form.plain or tensor.requires_grad or isinstance(tensor, torch.nn.Parameter)

    @property
    def identity(self) -> Hashable:
        """Same memory, shape, strides and dtype; an empty tensor is only ever itself."""
        tensor = self.live
        if tensor.numel() == 0:
            return ("torch", id(self.live))
        return (
            "torch", tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(),
            self.form.numbers,
            tensor.is_conj(), tensor.is_neg(),
        )  # fmt: skip

    @property
    def problem(self) -> str:
        """Why nothing can be written into it."""
        strides = self.live.stride()
        if 0 in strides and any(
            stride == 0 and size > 1 for size, stride in zip(self.live.shape, strides, strict=True)
        ):
            return "the live tensor is expanded: several of its elements are one place in memory"
        return ""

    def node(self, name: str) -> Node:
        """Returns the skeleton's node for it under a name."""
        node: Node = {
            "$": "tensor",
            "array": name,
            "dtype": self.form.numbers,
            "shape": list(self.live.shape),
        }
        if not self.form.plain and self.live.requires_grad:
            node["requires_grad"] = True
        if isinstance(self.live, torch.nn.Parameter):
            node["parameter"] = True
        return node

    def memory(self) -> memoryview | None:
        """Returns its writable bytes where it is contiguous in the host's memory, else None."""
        tensor = self.tensor
        if tensor.numel() == 0:
            return memoryview(bytearray())
        if tensor.device.type != "cpu" or not self.in_one_line():
            return None
        if tensor.dtype in _OF_NUMPY:
            # A third of the time of the way below, which fits every dtype.
            return tensor.numpy().data.cast("B")
        # Not reshape(): a dimension of size 1 keeps a stride that view() then stumbles over.
        line = tensor.as_strided((tensor.numel(),), (1,))
        return line.view(torch.uint8).numpy().data

    def sink(self) -> Sink | None:
        """Returns what takes its bytes where it is contiguous on a GPU, else None."""
        tensor = self.tensor
        if tensor.is_cuda and tensor.numel() and self.in_one_line():
            return DeviceSink(tensor)
        return None

    def in_one_line(self) -> bool:
        """Whether its bytes lie one behind the other, as they are stored."""
        tensor = self.live
        return tensor.is_contiguous() and not tensor.is_conj() and not tensor.is_neg()

    def write(self, source: memoryview) -> None:
        """Copies stored bytes into it."""
        tensor = self.tensor
        if tensor.numel():
            with torch.no_grad():
                same_bits(tensor).copy_(same_bits(on_buffer(source, tensor.dtype, tensor.shape)))

    @property
    def on_host(self) -> bool:
        """Whether its bytes are in the host's memory."""
        return self.live.device.type == "cpu"

    @property
    def version(self) -> int | None:
        """Torch's count of changes in place; tensors of inference mode have none."""
        return None if self.live.is_inference() else self.live._version

    def pieces(self, nbytes: int) -> Iterator[memoryview]:
        """Yields its bytes in parts, in C order; from a device part by part."""
        for part in _parts(self.tensor, nbytes):
            host = part.to("cpu", copy=True).resolve_conj().resolve_neg().contiguous()
            whole = host.as_strided((host.numel(),), (1,)).view(torch.uint8).numpy().data
            for begin in range(0, len(whole), nbytes):
                yield whole[begin : begin + nbytes]

    def touched(self) -> None:
        """Counts its version up.

        A backward pass over the old values then fails, as after any other change in place.
        """
        if not self.live.is_inference():
            torch.autograd.graph.increment_version(self.tensor)


def _parts(tensor: torch.Tensor, nbytes: int) -> Iterator[torch.Tensor]:
    """Yields slices that make up a tensor in C order, of `nbytes` at most where it has axes."""
    size = tensor.numel() * tensor.element_size()
    if size == 0:
        return
    if size <= nbytes or tensor.ndim == 0:
        yield tensor
        return
    rows = max(1, len(tensor) * nbytes // size)
    for begin in range(0, len(tensor), rows):
        part = tensor[begin : begin + rows]
        yield from _parts(part[0], nbytes) if len(part) == 1 else (part,)


def _form(tensor: torch.Tensor, plain: bool) -> Form:
    numbers = _NAMES.get(tensor.dtype)
    simple = (
        numbers is not None
        and type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and not tensor.is_nested
        and tensor.layout is torch.strided
        and not tensor.is_meta
    )
    if numbers is None or not simple:
        refuse_unstorable(tensor)
        numbers = dtype_name(tensor.dtype)
    dtype, shape = stored_of_tensor(numbers, tuple(tensor.shape))
    return Form(numbers, dtype, shape, stored_nbytes(dtype, shape), plain)


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


def on_buffer(buffer: memoryview, dtype: torch.dtype, shape: Sequence[int]) -> torch.Tensor:
    """Returns a tensor on a buffer's bytes, without a copy."""
    if buffer.nbytes == 0:
        return torch.empty(tuple(shape), dtype=dtype)
    return torch.frombuffer(buffer, dtype=torch.uint8).view(dtype).view(tuple(shape))


def build(stored: StoredArray, buffer: memoryview, *, device: object) -> torch.Tensor:
    """Returns a tensor on a writable buffer; see `frameworks.Framework.build`."""
    node = stored.node
    tensor = on_buffer(buffer, find_dtype(node["dtype"]), stored.shape)
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
