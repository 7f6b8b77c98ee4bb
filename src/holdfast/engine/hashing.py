"""Digests of arrays, and whether they are finite: found by a few threads ahead of the writer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from blake3 import blake3

from holdfast.engine.finite import PIECE_NBYTES, finite_check
from holdfast.engine.layout import ArrayCopy
from holdfast.engine.spreading import batches

_THREADS = 2


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found out about an array.

    Attributes:
        digest: BLAKE3 of its bytes, in hexadecimal.
        finite: Whether it holds no NaN and no infinity.
    """

    digest: str
    finite: bool


def look_at(array: ArrayCopy) -> Findings:
    """Reads an array once, piece by piece: what was hashed is in the processor's cache then."""
    check = finite_check(array.dtype, numbers=array.numbers)
    digest = blake3()
    finite = True
    for part in array.parts():
        for begin in range(0, len(part), PIECE_NBYTES):
            piece = part[begin : begin + PIECE_NBYTES]
            digest.update(piece)
            if finite and check is not None:
                finite = check(piece)
    return Findings(digest.hexdigest(), finite)


class HashAhead:
    """Findings about arrays, in the order in which they are going to be asked for.

    Args:
        arrays: The first ones first.
        look: Called by several threads with one array each.
    """

    def __init__(
        self,
        arrays: Sequence[ArrayCopy],
        *,
        look: Callable[[ArrayCopy], Findings] = look_at,
    ) -> None:
        self._found: dict[ArrayCopy, Findings] = {}
        self._look = look
        self._stopped = threading.Event()
        self._futures: dict[ArrayCopy, Future[None]] = {}
        self._pool: ThreadPoolExecutor | None = None
        parts = batches(arrays, lambda array: array.nbytes)
        if len(parts) <= 1:
            self._do(arrays)
            return
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="holdfast-hash")
        try:
            for part in parts:
                future = self._pool.submit(self._do, part)
                self._futures.update(dict.fromkeys(part, future))
        except RuntimeError:
            # Once the script has ended no thread starts any more; its last save goes on alone.
            self._do([array for array in arrays if array not in self._futures])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def __getitem__(self, array: ArrayCopy) -> Findings:
        """Returns what was found about an array, waiting for it; raises what looking raised."""
        future = self._futures.get(array)
        if future is not None:
            future.result()
        return self._found[array]

    def so_far(self, arrays: Iterable[ArrayCopy]) -> Mapping[ArrayCopy, Findings]:
        """Returns what is known by now, without waiting."""
        return {array: self._found[array] for array in arrays if array in self._found}

    def _do(self, arrays: Iterable[ArrayCopy]) -> None:
        for array in arrays:
            if self._stopped.is_set():
                return
            self._found[array] = self._look(array)
