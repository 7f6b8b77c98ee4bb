"""Digests of arrays, and whether they are finite: found by a few threads ahead of the writer."""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

from blake3 import blake3

from holdfast.engine.finite import PIECE_NBYTES, finite_check
from holdfast.engine.layout import ArrayCopy
from holdfast.engine.spreading import batches

T = TypeVar("T")

_THREADS: Final = 2
_AT_ONCE_NBYTES: Final = 1 << 20


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


class HashAhead(Generic[T]):
    """Findings about arrays, in the order in which they are going to be asked for.

    Its threads do not keep a process from ending: a medium that hangs must not do that.

    Args:
        arrays: The first ones first.
        alongside: Called by one of the threads first: work that the medium is waited for with.
        look: Called by several threads with one array each.
    """

    def __init__(
        self,
        arrays: Sequence[ArrayCopy],
        *,
        alongside: Callable[[], T],
        look: Callable[[ArrayCopy], Findings] = look_at,
    ) -> None:
        self._look = look
        self._found: dict[ArrayCopy, Findings] = {}
        self._beside: list[T] = []
        self._error: BaseException | None = None
        self._stopped = False
        self._news = threading.Condition()
        self._threads: list[threading.Thread] = []
        parts = batches(arrays, lambda array: array.nbytes)
        self._tasks: deque[Callable[[], None]] = deque([lambda: self._beside.append(alongside())])
        self._tasks.extend(functools.partial(self._do, part) for part in parts)
        if arrays and arrays[0].nbytes <= _AT_ONCE_NBYTES:
            # It is asked for at once, so that a whole batch would be waited for.
            self._do(arrays[:1])
        if len(parts) > 1:
            self._start()
        if not self._threads:
            self._work()

    def _start(self) -> None:
        for _ in range(_THREADS):
            thread = threading.Thread(target=self._work, name="holdfast-hash", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # Once the script has ended no thread starts any more; its last save goes on alone.
                return
            self._threads.append(thread)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped = True
        for thread in self._threads:
            thread.join()

    @property
    def beside(self) -> T:
        """What `alongside` returned, waiting for it; raises what any of the work raised."""
        self._wait(lambda: bool(self._beside))
        return self._beside[0]

    def __getitem__(self, array: ArrayCopy) -> Findings:
        """Returns what was found about an array, waiting for it; raises what the work raised."""
        if array not in self._found:
            self._wait(lambda: array in self._found)
        return self._found[array]

    def so_far(self, arrays: Iterable[ArrayCopy]) -> Mapping[ArrayCopy, Findings]:
        """Returns what is known by now, without waiting."""
        return {array: self._found[array] for array in arrays if array in self._found}

    def _wait(self, ready: Callable[[], bool]) -> None:
        with self._news:
            self._news.wait_for(lambda: ready() or self._error is not None)
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while self._tasks and not self._stopped and self._error is None:
            try:
                task = self._tasks.popleft()
            except IndexError:
                # The other thread was faster.
                return
            try:
                task()
            except BaseException as error:  # noqa: BLE001 - raised by whoever asks
                self._error = error
            with self._news:
                self._news.notify_all()

    def _do(self, arrays: Iterable[ArrayCopy]) -> None:
        for array in arrays:
            if self._stopped:
                return
            if array not in self._found:
                self._found[array] = self._look(array)
