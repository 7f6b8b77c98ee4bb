"""Moving bytes within the host's memory, over a few threads of our own.

A framework's own threads wait for each other once per array. Where other processes want the cores
(data loaders, for instance), each of these waits may take a time slice; here there is one in all.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator, Sequence
from typing import Final

#: Below this a second thread takes longer to start than it saves.
_ALONE_NBYTES: Final = 16 << 20
_PIECE_NBYTES: Final = 4 << 20
#: More threads than this find no more memory bandwidth on common machines.
_MOST_THREADS: Final = 16

#: Address of the target, address of the source, number of bytes.
Move = tuple[int, int, int]


def move(moves: Sequence[Move], *, owners: object) -> None:
    """Copies bytes from address to address; on return all are copied.

    Args:
        moves: No target overlaps anything else.
        owners: Keeps all that memory alive, even if this call is interrupted.
    """
    total = sum(nbytes for _, _, nbytes in moves)
    count = min(_MOST_THREADS, _cores(), total // _ALONE_NBYTES + 1)
    if count == 1:
        for target, source, nbytes in moves:
            ctypes.memmove(target, source, nbytes)
        return
    left = _pieces(moves)
    lock = threading.Lock()

    def work(_owners: object) -> None:
        while True:
            with lock:
                piece = next(left, None)
            if piece is None:
                return
            # Without the interpreter's lock.
            ctypes.memmove(*piece)

    threads = []
    try:
        for _ in range(count - 1):
            thread = threading.Thread(
                target=work, args=(owners,), name="holdfast-copy", daemon=True
            )
            thread.start()
            threads.append(thread)
    except RuntimeError:
        # Once the script has ended no thread starts any more.
        pass
    work(owners)
    for thread in threads:
        thread.join()


def _pieces(moves: Sequence[Move]) -> Iterator[Move]:
    for target, source, nbytes in moves:
        for begin in range(0, nbytes, _PIECE_NBYTES):
            yield target + begin, source + begin, min(_PIECE_NBYTES, nbytes - begin)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
