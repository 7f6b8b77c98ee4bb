"""Tensors from files into memory: every byte where it belongs, every digest compared."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.engine import filling
from holdfast.engine.filling import Located, Wanted, fill, useful_threads
from holdfast.engine.shardfile import TensorEntry
from holdfast.errors import IntegrityError
from holdfast.storage import LocalStorage
from holdfast.storage.openfiles import OpenFile

BIG = filling._SHARED_NBYTES + 12_345
SIZES = [0, 1, 700, 64 << 10, (64 << 10) + 1, 512 << 10, (512 << 10) + 1, 3 << 20, BIG, 5, 0]


class Tray:
    """A sink in host memory that keeps what it is given, as a device would."""

    def __init__(self, nbytes, piece_nbytes=1000):
        self.piece_nbytes = piece_nbytes
        self.content = bytearray(nbytes)
        self.finished = 0
        self._room = bytearray(piece_nbytes)
        self._filled = 0

    @property
    def span(self):
        return "tray", id(self), id(self) + len(self.content)

    def room(self, nbytes):
        self._filled = nbytes
        return memoryview(self._room)[:nbytes]

    def send(self, begin):
        self.content[begin : begin + self._filled] = self._room[: self._filled]

    def finish(self):
        self.finished += 1


@pytest.fixture
def storage(tmp_path):
    return LocalStorage(tmp_path)


def written(storage, sizes, path="file", *, gap=0):
    """Writes tensors one after another, and returns their places and bytes."""
    random = np.random.default_rng(len(sizes))
    places, contents, data = [], [], bytearray(b"header..")
    for number, size in enumerate(sizes):
        content = random.integers(0, 256, size, np.uint8).tobytes()
        entry = TensorEntry(f"t{number}", "U8", (size,), blake3(content).hexdigest(), size)
        places.append(Located(path, len(data), entry))
        contents.append(content)
        data += content + bytes(gap)
    (storage.root / path).write_bytes(data)
    return places, contents


def read(storage, places, target, **options):
    """Fills the targets that a function makes for lengths, and returns them."""
    targets = [target(place.entry.nbytes) for place in places]
    with ExitStack() as stack:
        paths = {place.path for place in places}
        files = {path: stack.enter_context(storage.reading(path)) for path in paths}
        fill([Wanted(p, files[p.path], t) for p, t in zip(places, targets, strict=True)], **options)
    return targets


def memory(nbytes):
    return memoryview(bytearray(nbytes))


@pytest.mark.parametrize("threads", [0, 1, 2, 5])
def test_every_tensor_gets_its_bytes(storage, threads):
    places, contents = written(storage, SIZES)
    others, more = written(storage, SIZES[:6], "other", gap=9)
    targets = read(storage, [*others, *places], memory, threads=threads)
    assert [bytes(target) for target in targets] == more + contents


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([0, 1, 3, 1000, 70_000, 600_000]), max_size=30),
    chosen=st.sets(st.integers(0, 29)),
    threads=st.sampled_from([1, 3]),
)
def test_any_choice_of_tensors_in_any_order_gets_its_bytes(
    tmp_path_factory, sizes, chosen, threads
):
    storage = LocalStorage(tmp_path_factory.mktemp("any"))
    places, contents = written(storage, sizes)
    some = [index for index in reversed(range(len(sizes))) if index in chosen]
    targets = read(storage, [places[index] for index in some], memory, threads=threads)
    assert [bytes(target) for target in targets] == [contents[index] for index in some]


@pytest.mark.parametrize("threads", [1, 2])
def test_sinks_get_their_bytes_by_pieces_and_are_finished_once(storage, threads):
    places, contents = written(storage, SIZES)
    trays = read(storage, places, Tray, threads=threads)
    assert [bytes(tray.content) for tray in trays] == contents
    assert {tray.finished for tray in trays} == {1}


@pytest.mark.parametrize("target", [memory, Tray, lambda _: None])
@pytest.mark.parametrize("bad", range(len(SIZES)))
def test_a_flipped_bit_is_found_wherever_it_is(storage, bad, target):
    places, _ = written(storage, SIZES)
    if not SIZES[bad]:
        return
    path = storage.root / "file"
    with path.open("r+b") as file:
        file.seek(places[bad].offset + SIZES[bad] // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 16]))
    with pytest.raises(IntegrityError, match="digest") as caught:
        read(storage, places, target, threads=2)
    assert caught.value.tensor == f"t{bad}"
    found = []
    read(storage, places, target, threads=2, failed=lambda place, error: found.append(place))
    assert found == [places[bad]]


@pytest.mark.parametrize("threads", [1, 2])
def test_what_cannot_be_read_is_named_and_the_rest_is_read(storage, threads):
    places, contents = written(storage, [100, 200, 300, 1 << 20, BIG])
    path = storage.root / "file"
    os.truncate(path, places[2].offset + 10)
    found = {}
    targets = read(
        storage, places, memory, threads=threads,
        failed=lambda place, error: found.update({place.entry.name: error}),
    )  # fmt: skip
    assert set(found) == {"t2", "t3", "t4"}
    assert all("ends at byte" in error.message for error in found.values())
    assert [bytes(target) for target in targets[:2]] == contents[:2]


def test_neighbours_are_read_in_one_call_and_gaps_are_not_read(storage, monkeypatch):
    calls = []
    original = OpenFile.read_into_each

    def counted(self, offset, buffers):
        calls.append(sum(map(len, buffers)))
        original(self, offset, buffers)

    monkeypatch.setattr(OpenFile, "read_into_each", counted)
    places, _ = written(storage, [1000] * 40)
    read(storage, places, memory)
    assert calls == [40_000]
    calls.clear()
    read(storage, places[::2], memory)
    assert calls == [1000] * 20


def test_progress_comes_from_the_calling_thread_and_adds_up(storage):
    places, _ = written(storage, SIZES)
    seen = []
    read(
        storage, places, lambda _: None, threads=3,
        progress=lambda nbytes: seen.append((nbytes, threading.get_ident())),
    )  # fmt: skip
    assert sum(nbytes for nbytes, _ in seen) == sum(SIZES)
    assert {thread for _, thread in seen} == {threading.get_ident()}


def test_an_error_that_is_no_damage_ends_the_work_and_is_raised(storage):
    places, _ = written(storage, [1 << 20] * 8)

    def full(_):
        raise KeyboardInterrupt

    tray = Tray(1 << 20)
    tray.send = full
    with pytest.raises(KeyboardInterrupt):
        read(storage, places, lambda nbytes: tray, threads=2)
    assert tray.finished >= 1


@pytest.mark.parametrize("target", [memory, lambda _: None])
@pytest.mark.parametrize("size", [1 << 20, BIG])
def test_without_new_threads_the_work_is_done_here(storage, monkeypatch, size, target):
    def refuse(*_):
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    monkeypatch.setattr("holdfast.engine.filling.ThreadPoolExecutor.submit", refuse)
    places, contents = written(storage, [size] * 3)
    targets = read(storage, places, target, threads=2)
    assert [bytes(t) for t in targets if t] == (contents if target is memory else [])


def test_little_work_is_not_worth_a_thread():
    assert useful_threads(0) == useful_threads(100_000) == 1
    assert 1 <= useful_threads(1 << 40) <= filling._MAX_THREADS
