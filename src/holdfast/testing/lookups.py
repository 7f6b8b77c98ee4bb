"""The part of the conformance of storage that looks things up, and refuses to leave its place."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from typing import Final

import pytest

from holdfast.errors import FormatError, IntegrityError
from holdfast.storage import LocalStorage
from holdfast.storage.draft import ALIGNMENT
from holdfast.storage.openfiles import OpenFile
from holdfast.testing.medium import Medium

_ESCAPES: Final = ("../x", "a/../../x", "/etc/passwd", "..", "a/..", "a\0b")
_USES: Final[dict[str, Callable[[LocalStorage, str], object]]] = {
    "read": lambda s, p: s.read(p),
    "size": lambda s, p: s.size(p),
    "link_count": lambda s, p: s.link_count(p),
    "modified_ns": lambda s, p: s.modified_ns(p),
    "names": lambda s, p: s.names(p),
    "folders": lambda s, p: s.folders(p),
    "publish": lambda s, p: s.publish(p, [b""]),
    "draft": lambda s, p: s.draft(p, "label", start=ALIGNMENT, expected=0),
    "sync_folder": lambda s, p: s.sync_folder(p),
    "make_folder": lambda s, p: s.make_folder(p),
    "link from": lambda s, p: s.link(p, "b"),
    "link to": lambda s, p: s.link("b", p),
    "relink from": lambda s, p: s.relink(p, "b"),
    "relink to": lambda s, p: s.relink("b", p),
    "remove": lambda s, p: s.remove(p),
    "remove_folder": lambda s, p: s.remove_folder(p),
    "appending": lambda s, p: s.appending(p).__enter__(),
    "lock": lambda s, p: s.lock(p),
}


class Lookups(Medium):
    """What reading, listing and asking promise."""

    # -- reading ---------------------------------------------------------------------------------

    def test_what_is_missing_is_missing_even_below_a_file(self, storage: LocalStorage) -> None:
        storage.publish("a", [b""])
        for path in ("b", "a/b", "c/d"):
            with pytest.raises(FileNotFoundError):
                storage.read(path)
        assert storage.names("a") == storage.names("b") == storage.folders("b") == []
        seen = (storage.size("b"), storage.link_count("b"), storage.modified_ns("b"))
        assert seen == (None, 0, 0)

    def test_a_file_beyond_its_limit_is_refused(self, storage: LocalStorage) -> None:
        storage.publish("a", [bytes(101)])
        assert storage.read("a", limit=101) == bytes(101)
        with pytest.raises(FormatError, match="more than the 100"):
            storage.read("a", limit=100)

    def test_reading_goes_anywhere_and_past_the_end_says_where_it_ends(
        self, storage: LocalStorage
    ) -> None:
        storage.publish("a", [b"12345"])
        one, other = bytearray(2), bytearray(3)
        with storage.reading("a") as file:
            file.read_into_each(0, (memoryview(one), memoryview(other)))
            assert (bytes(one), bytes(other)) == (b"12", b"345")
            file.read_into(2, memoryview(other))
            assert bytes(other) == b"345"
            with pytest.raises(IntegrityError, match="ends at byte 5"):
                file.read_into(3, memoryview(other))

    def test_several_threads_read_one_open_file(self, storage: LocalStorage) -> None:
        content = os.urandom(1 << 16)
        storage.publish("a", [content])
        wrong: list[int] = []

        def read(file: OpenFile, begin: int) -> None:
            for _ in range(20):
                buffer = bytearray(4096)
                file.read_into(begin, memoryview(buffer))
                if buffer != content[begin : begin + 4096]:
                    wrong.append(begin)

        with storage.reading("a") as file:
            in_threads([partial(read, file, 4096 * n) for n in range(4)])
        assert wrong == []

    def test_listings_are_sorted_and_tell_folders_from_files(self, storage: LocalStorage) -> None:
        for name in ("b", "a", "c"):
            storage.publish(name, [b"x"])
        for name in ("e", "d"):
            storage.make_folder(name)
        assert storage.names("") == ["a", "b", "c", "d", "e"]
        assert storage.folders("") == ["d", "e"]

    def test_a_folder_tells_when_its_names_changed(self, storage: LocalStorage) -> None:
        storage.make_folder("a")
        before = storage.modified_ns("a")
        assert before > 0
        storage.publish("a/b", [b"x"])
        assert storage.modified_ns("a") >= before

    # -- paths -----------------------------------------------------------------------------------

    @pytest.mark.parametrize("path", _ESCAPES)
    def test_a_path_that_leaves_the_store_is_refused_everywhere(
        self, storage: LocalStorage, path: str
    ) -> None:
        for use in _USES.values():
            with pytest.raises(FormatError, match="leaves its store"):
                use(storage, path)
        assert storage.names("") == []


def in_threads(works: list[Callable[[], object]]) -> None:
    """Does several things at once, and waits for all."""
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
