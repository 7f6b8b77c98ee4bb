"""Paths: none leads out of the store, and what is no plain file is not read."""

import errno
import os
import threading

import pytest

from holdfast.errors import FormatError, HoldfastError, IntegrityError, SaveError
from holdfast.storage import LocalStorage

ESCAPES = ["../x", "a/../../x", "/etc/passwd", "..", "a/..", "a\0b", "runs/../../x"]


@pytest.mark.parametrize("path", ESCAPES)
@pytest.mark.parametrize(
    "use",
    [
        lambda s, p: s.read(p),
        lambda s, p: s.publish(p, [b""]),
        lambda s, p: s.remove(p),
        lambda s, p: s.make_folder(p),
        lambda s, p: s.remove_folder(p),
        lambda s, p: s.link(p, "b"),
        lambda s, p: s.link("b", p),
        lambda s, p: s.relink(p, "b"),
        lambda s, p: s.names(p),
        lambda s, p: s.folders(p),
        lambda s, p: s.size(p),
        lambda s, p: s.sync_folder(p),
        lambda s, p: s.lock(p),
        lambda s, p: s.appending(p).__enter__(),
    ],
    ids=lambda use: "use" if callable(use) else str(use),
)
def test_a_path_that_leaves_the_store_is_refused_everywhere(tmp_path, path, use):
    root = tmp_path / "store"
    root.mkdir()
    (tmp_path / "x").write_bytes(b"outside")
    with pytest.raises(FormatError, match="leaves its store"):
        use(LocalStorage(root), path)
    assert (tmp_path / "x").read_bytes() == b"outside"


def test_a_symbolic_link_is_neither_read_nor_written_through(tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    root = tmp_path / "store"
    root.mkdir()
    (root / "link").symlink_to(outside)
    (root / "folder").symlink_to(tmp_path)
    storage = LocalStorage(root)
    with pytest.raises(FormatError, match="symbolic link"):
        storage.read("link")
    with pytest.raises(SaveError), storage.appending("link") as file:
        file.append(b"more", durable=False)
    with pytest.raises(SaveError):
        storage.lock("link").acquire(timeout_s=0)
    assert storage.folders("") == []
    storage.publish("link", [b"own"])
    assert outside.read_bytes() == b"secret"
    assert storage.read("link") == b"own"


def test_what_is_no_regular_file_is_not_read(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    storage = LocalStorage(tmp_path)
    for path in ("folder", "pipe"):
        with pytest.raises(FormatError, match="not a regular file"):
            storage.read(path)


def test_a_missing_file_is_missing_even_below_a_file(tmp_path):
    storage = LocalStorage(tmp_path)
    storage.publish("a", [b""])
    for path in ("b", "a/b", "c/d"):
        with pytest.raises(FileNotFoundError):
            storage.read(path)
    assert storage.names("a") == storage.names("b") == storage.folders("b") == []
    assert (storage.size("b"), storage.link_count("b"), storage.modified_ns("b")) == (None, 0, 0)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.EIO, IntegrityError),
        (errno.EACCES, HoldfastError),
        (errno.EMFILE, HoldfastError),
    ],
)
def test_what_cannot_be_opened_is_damage_only_where_the_medium_says_so(
    tmp_path, monkeypatch, code, expected
):
    def refuse(*_arguments, **_options):
        raise OSError(code, os.strerror(code))

    storage = LocalStorage(tmp_path)
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(HoldfastError) as caught:
        storage.read("a")
    monkeypatch.undo()
    assert type(caught.value) is expected


def test_a_file_beyond_its_limit_is_refused_before_it_is_read(tmp_path):
    storage = LocalStorage(tmp_path)
    with (tmp_path / "a").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(FormatError, match="more than the 100"):
        storage.read("a", limit=100)


def test_reading_past_the_end_says_where_the_file_ends(tmp_path):
    storage = LocalStorage(tmp_path)
    storage.publish("a", [b"12345"])
    buffer = bytearray(4)
    with storage.reading("a") as file:
        file.read_into(1, memoryview(buffer))
        assert bytes(buffer) == b"2345"
        with pytest.raises(IntegrityError, match="ends at byte 5"):
            file.read_into(3, memoryview(buffer))


def test_several_threads_read_one_open_file(tmp_path):
    storage = LocalStorage(tmp_path)
    content = os.urandom(1 << 16)
    storage.publish("a", [content])
    wrong = []

    def read(file, begin):
        for _ in range(20):
            buffer = bytearray(4096)
            file.read_into(begin, memoryview(buffer))
            if buffer != content[begin : begin + 4096]:
                wrong.append(begin)

    with storage.reading("a") as file:
        threads = [threading.Thread(target=read, args=(file, 4096 * n)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
