"""Copies of tensors into host memory: at once from the host's own, behind the loop from a GPU."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch

from holdfast.adapters.torch.arrays import TorchLeaf, on_buffer, same_bits
from holdfast.frameworks import Leaf, Transfer
from holdfast.tree.moving import Move, move

_log = logging.getLogger("holdfast")


class _FromDevices:
    """Copies under way on the side streams of some GPUs.

    Args:
        events: Device to what its side stream reaches when the copies are complete.
    """

    def __init__(self, events: dict[torch.device, torch.cuda.Event]) -> None:
        self._events = events

    def fence(self) -> None:
        """Lets the current streams wait, not the host: the loop goes on enqueuing work."""
        for device, event in self._events.items():
            torch.cuda.current_stream(device).wait_event(event)

    def wait(self) -> None:
        """Waits until the bytes are in the host's memory."""
        for event in self._events.values():
            event.synchronize()


def prepare_copy(
    leaves: Sequence[Leaf], buffers: Sequence[memoryview]
) -> Callable[[Sequence[Leaf]], Transfer | None]:
    """Returns a function that copies tensors; see `frameworks.Framework.prepare_copy`."""
    full = [index for index, buffer in enumerate(buffers) if buffer.nbytes]
    targets = [_target(leaves[index], buffers[index]) for index in full]
    places = [
        (target.data_ptr(), buffers[i].nbytes) for i, target in zip(full, targets, strict=True)
    ]

    def copy(live: Sequence[Leaf]) -> Transfer | None:
        moves: list[Move] = []
        rest: list[tuple[torch.Tensor, torch.Tensor]] = []
        aligned: list[torch.Tensor] = []
        for index, target, (address, nbytes) in zip(full, targets, places, strict=True):
            leaf = live[index]
            if not isinstance(leaf, TorchLeaf) or leaf.nbytes != nbytes:
                raise TypeError(f"{leaf!r} is not like the tensor that the copy was prepared for")
            tensor = leaf.live
            if tensor.is_cpu and leaf.in_one_line():
                moves.append((address, tensor.data_ptr(), nbytes))
            elif address % tensor.element_size():
                # Torch writes to aligned memory only: where it does not, some copies crash.
                aligned.append(_aligned(leaf.tensor))
                moves.append((address, aligned[-1].data_ptr(), nbytes))
            else:
                rest.append((target, same_bits(leaf.tensor)))
        move(moves, owners=(buffers, live, aligned))
        return _copy_rest(rest) if rest else None

    return copy


def _tensor(leaf: Leaf) -> torch.Tensor:
    if not isinstance(leaf, TorchLeaf):
        raise TypeError(f"{type(leaf).__name__} is not a leaf of torch")
    return leaf.tensor


def _target(leaf: Leaf, buffer: memoryview) -> torch.Tensor:
    tensor = _tensor(leaf)
    return same_bits(on_buffer(buffer, tensor.dtype, tensor.shape))


def _aligned(tensor: torch.Tensor) -> torch.Tensor:
    """Returns a tensor's values in memory of their own, as they are stored."""
    return tensor.to("cpu", copy=True).resolve_conj().resolve_neg().contiguous()


def _copy_rest(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> Transfer | None:
    targets, sources = [target for target, _ in pairs], [source for _, source in pairs]
    with torch.no_grad():
        if any(source.is_cuda for source in sources):
            return _from_devices(targets, sources)
        torch._foreach_copy_(targets, sources)
    return None


def _from_devices(targets: list[torch.Tensor], sources: list[torch.Tensor]) -> Transfer:
    """Starts the copies of tensors, some of them on GPUs, each GPU's on a stream of its own.

    A side stream begins behind what the current one was told so far. The memory of a source that
    is given up meanwhile is not handed out again before its copy is complete.
    """
    by_device: dict[torch.device, tuple[list[torch.Tensor], list[torch.Tensor]]] = {}
    for target, source in zip(targets, sources, strict=True):
        some = by_device.setdefault(source.device, ([], []))
        some[0].append(target)
        some[1].append(source)
    events: dict[torch.device, torch.cuda.Event] = {}
    for device, (there, here) in by_device.items():
        if device.type != "cuda":
            torch._foreach_copy_(there, here)
            continue
        side = _side_stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            torch._foreach_copy_(there, here, non_blocking=True)
            events[device] = side.record_event()
        for source in here:
            source.record_stream(side)
    return _FromDevices(events)


@functools.cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def pin(memory: memoryview) -> Callable[[], None] | None:
    """Locks host memory for transfers from GPUs; see `frameworks.Framework.pin`."""
    if not torch.cuda.is_initialized() or not memory.nbytes:  # type: ignore[no-untyped-call]
        return None
    runtime: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    address = torch.frombuffer(memory, dtype=torch.uint8).data_ptr()
    code = runtime.cudaHostRegister(address, memory.nbytes, 0)
    if int(code) != 0:
        _log.warning(
            "%d bytes could not be pinned (CUDA error %d): saves copy more slowly from the GPU; "
            "check `ulimit -l`",
            memory.nbytes,
            int(code),
        )
        return None

    def unpin() -> None:
        runtime.cudaHostUnregister(address)

    return unpin
