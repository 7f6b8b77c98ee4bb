"""Tensors from files into memory, each compared with its digest: one pass, on all cores.

Measured on two cores with 1 GiB in the page cache: a thread that hashes each half mebibyte while
its processor's cache still holds it takes 6% less time than one that reads a tensor and then
hashes it, and maps of the file were no faster than reads. See docs/performance.md.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from blake3 import blake3

from holdfast.engine.shardfile import TensorEntry
from holdfast.errors import IntegrityError
from holdfast.frameworks import Sink
from holdfast.storage.openfiles import MAX_BUFFERS, OpenFile

#: What is read at once and then hashed: two of them stay in a core's second-level cache.
_PIECE_NBYTES: Final = 512 << 10
#: Tensors up to this size are read together with their neighbours in the file.
_SMALL_NBYTES: Final = 64 << 10
#: What a thread takes at once: long stretches keep a disk busy.
_BATCH_NBYTES: Final = 8 << 20
#: Starting a thread costs about as much as reading and hashing this.
_WORTH_A_THREAD_NBYTES: Final = 1 << 20
#: How far ahead of the reading threads the medium is told what comes.
_AHEAD_NBYTES: Final = 64 << 20
#: Beyond this many the memory is the limit and not the cores.
_MAX_THREADS: Final = 8
#: A tensor of this size and of more than its share of the work is hashed by all threads.
_SHARED_NBYTES: Final = 32 << 20
_SHARED_PIECE_NBYTES: Final = 8 << 20
_SHARED_WINDOW: Final = 4


@dataclass(frozen=True, slots=True)
class Located:
    """Where a tensor's bytes are: a shard's file, an offset in it, and what they must be."""

    path: str
    offset: int
    entry: TensorEntry


Target = memoryview | Sink | None
Failed = Callable[[Located, IntegrityError], None]
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """A tensor to read.

    Attributes:
        place: Where it is.
        file: That file, open.
        target: Where it goes: writable memory of its length, or a sink; None to compare it only.
    """

    place: Located
    file: OpenFile
    target: Target


def fill(
    wanted: Iterable[Wanted],
    *,
    failed: Failed | None = None,
    progress: Progress | None = None,
    threads: int = 0,
) -> None:
    """Reads tensors to where they go and compares each with its digest.

    On return, in any way, nothing is written any more.

    Args:
        wanted: Tensors whose targets do not overlap.
        failed: Called for each tensor that is damaged, from any thread; the others are read all
            the same. None: the first one is raised.
        progress: Called with bytes that have been read, from the calling thread.
        threads: How many may work; 0 for as many as pay.

    Raises:
        IntegrityError: A tensor is damaged or cannot be read, and `failed` was not given.
    """
    work = sorted(wanted, key=_in_order)
    total = sum(item.place.entry.nbytes for item in work)
    threads = threads or useful_threads(total)
    scratch = _PIECE_NBYTES if any(item.target is None for item in work) else 0
    filling = _Filling(failed or _raise, progress or _ignore, scratch_nbytes=scratch)
    if threads > 1:
        large = _shared(work, total, threads)
        work = [item for item in work if item not in large]
        for item in large:
            filling.together(item, threads)
    filling.apart(_batches(work, threads), threads)


def useful_threads(nbytes: int) -> int:
    """Returns how many threads to read and hash so many bytes with, the calling one included."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(cores or 1, _MAX_THREADS, nbytes // _WORTH_A_THREAD_NBYTES))


def _in_order(item: Wanted) -> tuple[str, int]:
    return item.place.path, item.place.offset


def _shared(work: Iterable[Wanted], total: int, threads: int) -> dict[Wanted, None]:
    """Returns tensors so large that one thread would go on with one when the others are done."""
    share = max(total // (4 * threads), _SHARED_NBYTES)
    return dict.fromkeys(
        item for item in work if item.place.entry.nbytes > share and _in_memory(item)
    )


def _in_memory(item: Wanted) -> bool:
    return item.target is None or isinstance(item.target, memoryview)


def _batches(work: Sequence[Wanted], threads: int) -> deque[list[Wanted]]:
    """Returns the work in stretches of a file, several for each thread."""
    total = sum(item.place.entry.nbytes for item in work)
    limit = min(_BATCH_NBYTES, max(_PIECE_NBYTES, total // (4 * threads))) if threads > 1 else total
    batches: deque[list[Wanted]] = deque()
    room = 0
    for item in work:
        if not batches or room <= 0:
            batches.append([])
            room = limit
        batches[-1].append(item)
        room -= item.place.entry.nbytes
    return batches


def _raise(_: Located, error: IntegrityError) -> None:
    raise error


def _ignore(_: int) -> None:
    pass


class _Filling:
    """One `fill` under way."""

    def __init__(self, failed: Failed, progress: Progress, *, scratch_nbytes: int) -> None:
        self._scratch_nbytes = scratch_nbytes
        self._failed = failed
        self._progress = progress
        self._read: deque[int] = deque()
        self._caller = threading.get_ident()

    # -- one tensor after another, several at once -------------------------------------------

    def apart(self, batches: deque[list[Wanted]], threads: int) -> None:
        """Reads batches in several threads, this one among them."""
        hints = _Hints(batches)
        helpers = min(threads, len(batches)) - 1
        if helpers <= 0:
            self._drain(batches, hints)
            return
        with ThreadPoolExecutor(helpers, thread_name_prefix="holdfast-read") as pool:
            futures: list[Future[None]] = []
            try:
                futures += [pool.submit(self._drain, batches, hints) for _ in range(helpers)]
            except RuntimeError:
                # Once the script has ended no thread starts any more: this one goes on alone.
                futures.clear()
            try:
                self._drain(batches, hints)
            finally:
                batches.clear()
        for future in futures:
            future.result()
        self._report()

    def _drain(self, batches: deque[list[Wanted]], hints: _Hints) -> None:
        scratch = memoryview(bytearray(self._scratch_nbytes))
        while batches:
            try:
                batch = batches.popleft()
            except IndexError:
                # Another thread took the last one.
                return
            hints.before(batch)
            try:
                self._fill_batch(batch, scratch)
            except BaseException:
                batches.clear()
                raise
            self._count(sum(item.place.entry.nbytes for item in batch))

    def _fill_batch(self, batch: Sequence[Wanted], scratch: memoryview) -> None:
        run: list[Wanted] = []
        end = room = 0
        for item in batch:
            nbytes = item.place.entry.nbytes
            small = nbytes <= _SMALL_NBYTES and _in_memory(item)
            follows = run and item.file is run[0].file and item.place.offset == end
            if run and not (small and follows and nbytes <= room and len(run) < MAX_BUFFERS):
                self._fill_run(run, scratch)
                run = []
            if not small:
                self._attempt(item, scratch)
                continue
            if not run:
                room = _PIECE_NBYTES
            run.append(item)
            room -= nbytes
            end = item.place.offset + nbytes
        if run:
            self._fill_run(run, scratch)

    def _fill_run(self, run: Sequence[Wanted], scratch: memoryview) -> None:
        """Reads small neighbours in one call."""
        views = []
        begin = 0
        for item in run:
            end = begin + item.place.entry.nbytes
            target = item.target
            views.append(target if isinstance(target, memoryview) else scratch[begin:end])
            begin = end
        try:
            run[0].file.read_into_each(run[0].place.offset, views)
        except IntegrityError:
            # One by one: the message names the tensor that cannot be read, and the others are.
            for item in run:
                self._attempt(item, scratch)
            return
        for item, view in zip(run, views, strict=True):
            if blake3(view).hexdigest() != item.place.entry.digest:
                self._failed(item.place, damaged(item.place))

    def _attempt(self, item: Wanted, scratch: memoryview) -> None:
        try:
            _fill_one(item, scratch)
        except IntegrityError as error:
            self._failed(item.place, error)

    # -- one tensor by all threads -----------------------------------------------------------

    def together(self, item: Wanted, threads: int) -> None:
        """Reads one large tensor: threads that read ahead of one that hashes, on all cores."""
        try:
            with ThreadPoolExecutor(max(1, threads // 2), "holdfast-read") as pool:
                self._hash_behind(pool, item, threads)
        except IntegrityError as error:
            self._failed(item.place, error)

    def _hash_behind(self, pool: ThreadPoolExecutor, item: Wanted, threads: int) -> None:
        place, target = item.place, item.target
        nbytes = place.entry.nbytes
        ring = None
        if not isinstance(target, memoryview):
            ring = memoryview(bytearray(_SHARED_WINDOW * _SHARED_PIECE_NBYTES))
        digest = blake3(max_threads=threads)
        ahead: deque[tuple[memoryview, Future[None] | None]] = deque()
        for number, begin in enumerate(range(0, nbytes, _SHARED_PIECE_NBYTES)):
            length = min(_SHARED_PIECE_NBYTES, nbytes - begin)
            if ring is not None:
                at = number % _SHARED_WINDOW * _SHARED_PIECE_NBYTES
                view = ring[at : at + length]
            else:
                view = target[begin : begin + length]  # type: ignore[index]
            if len(ahead) == _SHARED_WINDOW:
                self._hash_next(digest, ahead)
            ahead.append((view, _start(pool, item.file, place.offset + begin, view)))
        while ahead:
            self._hash_next(digest, ahead)
        if digest.hexdigest() != place.entry.digest:
            raise damaged(place)

    def _hash_next(
        self, digest: blake3, ahead: deque[tuple[memoryview, Future[None] | None]]
    ) -> None:
        view, future = ahead.popleft()
        if future is not None:
            future.result()
        digest.update(view)
        self._count(len(view))

    # -- progress ----------------------------------------------------------------------------

    def _count(self, nbytes: int) -> None:
        self._read.append(nbytes)
        if threading.get_ident() == self._caller:
            self._report()

    def _report(self) -> None:
        while self._read:
            self._progress(self._read.popleft())


class _Hints:
    """Tells the medium what is going to be read, some way ahead of the threads."""

    def __init__(self, batches: Iterable[list[Wanted]]) -> None:
        self._next = deque(batches)
        self._ahead = 0
        self._lock = threading.Lock()

    def before(self, batch: Sequence[Wanted]) -> None:
        """Hints so much that `_AHEAD_NBYTES` behind a batch are under way."""
        todo: list[list[Wanted]] = []
        with self._lock:
            self._ahead -= sum(item.place.entry.nbytes for item in batch)
            while self._next and self._ahead < _AHEAD_NBYTES:
                todo.append(self._next.popleft())
                self._ahead += sum(item.place.entry.nbytes for item in todo[-1])
        for some in todo:
            begin = end = 0
            file: OpenFile | None = None
            for item in some:
                if item.file is not file or item.place.offset != end:
                    if file is not None:
                        file.expect(begin, end - begin)
                    file, begin = item.file, item.place.offset
                end = item.place.offset + item.place.entry.nbytes
            if file is not None:
                file.expect(begin, end - begin)


def _start(
    pool: ThreadPoolExecutor, file: OpenFile, offset: int, view: memoryview
) -> Future[None] | None:
    try:
        return pool.submit(file.read_into, offset, view)
    except RuntimeError:
        # As above: no thread starts any more.
        file.read_into(offset, view)
        return None


def _fill_one(item: Wanted, scratch: memoryview) -> None:
    """Reads a tensor by pieces, each hashed while the processor's cache holds it."""
    place, target = item.place, item.target
    nbytes = place.entry.nbytes
    digest = blake3()
    if target is None or isinstance(target, memoryview):
        for begin in range(0, nbytes, _PIECE_NBYTES):
            length = min(_PIECE_NBYTES, nbytes - begin)
            view = scratch[:length] if target is None else target[begin : begin + length]
            item.file.read_into(place.offset + begin, view)
            digest.update(view)
    else:
        try:
            for begin in range(0, nbytes, target.piece_nbytes):
                room = target.room(min(target.piece_nbytes, nbytes - begin))
                item.file.read_into(place.offset + begin, room)
                digest.update(room)
                target.send(begin)
        finally:
            target.finish()
    if digest.hexdigest() != place.entry.digest:
        raise damaged(place)


def damaged(place: Located) -> IntegrityError:
    """Returns the error for a tensor whose bytes are not what they must be."""
    return IntegrityError(
        f"{place.path} is damaged: the tensor {place.entry.name!r} does not match its digest",
        hint="use another checkpoint or a mirror; `holdfast verify` lists what is intact",
        path=place.path,
        tensor=place.entry.name,
    )
