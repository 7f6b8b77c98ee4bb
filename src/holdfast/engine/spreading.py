"""Work on many arrays, over a few threads: hashing and reading release the interpreter's lock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")
R = TypeVar("R")

#: More threads than this were no faster where it was measured: two cores, one disk.
_THREADS: Final = 2
#: Handing a batch to a thread costs about as much as hashing 100 kB, so small arrays go together.
_BATCH_NBYTES: Final = 2 << 20


def spread(
    work: Callable[[T], R], items: Sequence[T], *, nbytes: Callable[[T], int], name: str
) -> list[R]:
    """Returns the results of a function on items, in their order.

    Args:
        work: Called from several threads; what it raises is raised here.
        items: Large ones first, or in the order in which they lie on the medium.
        nbytes: How much work an item is.
        name: How the threads are called.
    """
    parts = batches(items, nbytes)
    if len(parts) <= 1:
        return [work(item) for item in items]

    def do(batch: Sequence[T]) -> list[R]:
        return [work(item) for item in batch]

    with ThreadPoolExecutor(_THREADS, thread_name_prefix=name) as threads:
        try:
            futures: list[Future[list[R]]] = [threads.submit(do, batch) for batch in parts]
        except RuntimeError:
            # Once the script has ended no thread starts any more; its last save goes on alone.
            return [work(item) for item in items]
        return [result for future in futures for result in future.result()]


def batches(items: Sequence[T], nbytes: Callable[[T], int]) -> list[list[T]]:
    """Returns items in lists, each just large enough to be worth handing to a thread."""
    found: list[list[T]] = []
    room = 0
    for item in items:
        if not found or room <= 0:
            found.append([])
            room = _BATCH_NBYTES
        found[-1].append(item)
        room -= nbytes(item)
    return found
