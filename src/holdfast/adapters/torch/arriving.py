"""Bytes on their way into tensors on a GPU: by pieces, through two pinned buffers.

While the host reads and hashes one piece, the copy of the one before it runs on a side stream.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

import torch

#: Large enough for the bus to run at its speed, small enough for the hash to find it in a cache.
_PIECE_NBYTES: Final = 2 << 20


class DeviceSink:
    """`frameworks.Sink` for a contiguous tensor.

    What the current stream was told before comes before the copies; when `finish` returns they
    are complete, so whatever comes later needs no waiting.

    Args:
        tensor: On a GPU; on the host, too, where the copies are made at once.
        piece_nbytes: How many bytes go into one piece.
    """

    def __init__(self, tensor: torch.Tensor, *, piece_nbytes: int = _PIECE_NBYTES) -> None:
        self.piece_nbytes = piece_nbytes
        self._device = tensor.device
        self._bytes = tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8)
        self._rooms: list[torch.Tensor] = []
        self._copied: list[torch.cuda.Event | None] = []
        self._side: torch.cuda.Stream | None = None
        # The stream of the thread that plans the restore: the one that reads has its own.
        self._before = torch.cuda.current_stream(self._device) if tensor.is_cuda else None
        self._turn = 0
        self._filled = 0

    @property
    def span(self) -> tuple[Hashable, int, int]:
        """The memory that it fills: device, first byte, one past the last."""
        start = self._bytes.data_ptr()
        return self._device, start, start + self._bytes.numel()

    def room(self, nbytes: int) -> memoryview:
        """Returns host memory for the next piece; waits until the device needs it no more."""
        if not self._rooms:
            self._open()
        self._turn = 1 - self._turn
        self._filled = nbytes
        copied = self._copied[self._turn]
        if copied is not None:
            copied.synchronize()
        return self._rooms[self._turn][:nbytes].numpy().data

    def send(self, begin: int) -> None:
        """Starts to copy the piece in the last `room` to where it belongs, from byte `begin` on."""
        target = self._bytes[begin : begin + self._filled]
        source = self._rooms[self._turn][: self._filled]
        with torch.no_grad():
            if self._side is None:
                target.copy_(source)
                return
            with torch.cuda.stream(self._side):
                target.copy_(source, non_blocking=True)
                self._copied[self._turn] = self._side.record_event()

    def finish(self) -> None:
        """Waits until the device has everything that was sent."""
        if self._side is not None:
            self._side.synchronize()
        # Back to torch's cache of pinned memory, for the next tensor.
        self._rooms.clear()

    def _open(self) -> None:
        pinned = self._before is not None
        nbytes = min(self.piece_nbytes, self._bytes.numel())
        self._rooms = [torch.empty(nbytes, dtype=torch.uint8, pin_memory=pinned) for _ in range(2)]
        self._copied = [None, None]
        if self._before is not None:
            self._side = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            self._side.wait_stream(self._before)
