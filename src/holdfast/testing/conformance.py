"""What every storage backend promises to the layers above it, as tests that its own inherit.

pytest is no dependency of the library: this module is imported by tests alone.
"""

from __future__ import annotations

import os
import threading
from functools import partial
from pathlib import Path

import pytest

from holdfast.errors import SaveError
from holdfast.storage import LocalStorage
from holdfast.storage.draft import ALIGNMENT
from holdfast.storage.posix import Buffer
from holdfast.storage.recording import Data, Naming, RecordingPosix, Synced
from holdfast.testing.disturbing import in_child
from holdfast.testing.lookups import Lookups, in_threads
from holdfast.testing.medium import NEW, OLD, write_draft
from holdfast.testing.outages import Outages


class StorageConformance(Lookups, Outages):
    """The promises of a storage; inherit it and provide a fixture ``storage``, an empty place.

    What a medium cannot do is said by the attributes of `Medium`, never by leaving a test out.
    """

    # -- publishing ------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "parts",
        [[], [b""], [b"head", memoryview(b"body"), bytearray(b"tail")], [NEW, b"", NEW]],
        ids=["nothing", "empty", "kinds", "large"],
    )
    def test_a_published_file_holds_all_parts_in_order(
        self, storage: LocalStorage, parts: list[Buffer]
    ) -> None:
        content = b"".join(bytes(part) for part in parts)
        assert storage.publish("a", parts) == len(content)
        assert storage.read("a") == content
        assert storage.size("a") == len(content)
        assert storage.names("") == ["a"]

    def test_a_name_is_replaced_as_a_whole_and_open_files_stay_as_they_are(
        self, storage: LocalStorage
    ) -> None:
        storage.publish("a", [OLD])
        with storage.reading("a") as file:
            storage.publish("a", [NEW])
            buffer = bytearray(file.nbytes)
            file.read_into(0, memoryview(buffer))
        assert bytes(buffer) == OLD
        assert storage.read("a") == NEW

    def test_an_exclusive_name_is_given_once(self, storage: LocalStorage) -> None:
        storage.publish("a", [b"first"], exclusive=True)
        with pytest.raises(FileExistsError):
            storage.publish("a", [b"second"], exclusive=True)
        assert storage.read("a") == b"first"
        assert storage.names("") == ["a"]

    def test_of_many_that_want_an_exclusive_name_one_gets_it(self, storage: LocalStorage) -> None:
        if not self.hard_links:
            pytest.skip("without hard links, of two that come at one moment the later wins")
        ready = threading.Barrier(8)
        won: list[int] = []
        lost: list[int] = []

        def publish(number: int) -> None:
            ready.wait()
            try:
                storage.publish("a", [bytes([number])], exclusive=True)
            except FileExistsError:
                lost.append(number)
            else:
                won.append(number)

        in_threads([partial(publish, n) for n in range(8)])
        assert (len(won), len(lost)) == (1, 7)
        assert storage.read("a") == bytes(won)
        assert storage.names("") == ["a"]

    def test_a_file_needs_its_folder(self, storage: LocalStorage) -> None:
        with pytest.raises(SaveError):
            storage.publish("missing/a", [b"x"])
        assert storage.names("") == []

    @pytest.mark.parametrize("sync", [True, False])
    def test_bytes_are_durable_before_the_name_and_the_name_before_the_return(
        self, storage: LocalStorage, sync: bool
    ) -> None:
        posix = self._recording()
        self.through(storage, posix).publish("a", [NEW], sync_folder=sync)
        assert _order(posix)[:3] == ["write", "sync file", "name a"]
        assert _order(posix)[3:] == (["sync folder"] if sync else [])

    # -- drafts ----------------------------------------------------------------------------------

    @pytest.mark.parametrize("size", [0, 1, ALIGNMENT, ALIGNMENT + 1, 300_001, 5_000_000])
    def test_a_draft_holds_its_start_and_all_pieces(self, storage: LocalStorage, size: int) -> None:
        storage.make_folder("f")
        content = (NEW * (size // len(NEW) + 1))[:size]
        draft = storage.draft("f", "label", start=ALIGNMENT, expected=ALIGNMENT + size)
        for begin in range(0, size, 100_003):
            draft.append(content[begin : begin + 100_003])
        assert draft.nbytes == ALIGNMENT + size
        draft.fill_start(bytes(range(256)) * (ALIGNMENT // 256))
        assert storage.size("f/a") is None
        storage.publish_draft(draft, "f/a")
        assert storage.read("f/a") == bytes(range(256)) * (ALIGNMENT // 256) + content
        assert storage.names("f") == ["a"]

    def test_a_discarded_draft_leaves_nothing_and_a_published_one_stays(
        self, storage: LocalStorage
    ) -> None:
        storage.make_folder("f")
        given_up = storage.draft("f", "a", start=ALIGNMENT, expected=0)
        given_up.append(NEW)
        for _ in range(2):
            given_up.discard()
        assert storage.names("f") == []
        write_draft(storage, "f", "a")
        assert storage.names("f") == ["a"]

    def test_a_draft_is_durable_before_it_has_its_name(self, storage: LocalStorage) -> None:
        storage.make_folder("f")
        posix = self._recording()
        write_draft(self.through(storage, posix), "f", "a")
        assert _order(posix)[-2:] == ["sync file", "name a"]
        assert "write" in _order(posix)[:-2]
        assert "sync file" not in _order(posix)[:-2]

    # -- links -----------------------------------------------------------------------------------

    def test_a_link_is_the_same_file_under_another_name(self, storage: LocalStorage) -> None:
        storage.publish("a", [OLD])
        assert storage.link_count("a") == 1
        if not self.hard_links:
            assert storage.link("a", "b") is False
            assert storage.names("") == ["a"]
            return
        assert storage.link("a", "b") is True
        assert storage.link_count("a") == storage.link_count("b") == 2
        storage.remove("a")
        assert (storage.link_count("a"), storage.link_count("b")) == (0, 1)
        assert storage.read("b") == OLD

    def test_a_link_to_what_is_gone_is_told_and_one_to_a_taken_name_is_an_error(
        self, storage: LocalStorage
    ) -> None:
        assert storage.link("gone", "b") is False
        if not self.hard_links:
            pytest.skip("the medium has no hard links")
        storage.publish("a", [OLD])
        storage.publish("b", [NEW])
        with pytest.raises(FileExistsError):
            storage.link("a", "b")
        assert storage.read("b") == NEW

    def test_relinking_takes_a_name_over(self, storage: LocalStorage) -> None:
        if not self.hard_links:
            pytest.skip("the medium has no hard links")
        storage.publish("a", [OLD])
        storage.publish("b", [NEW])
        # Twice: the second time both are names of one file already.
        for _ in range(2):
            storage.relink("a", "b")
            assert storage.read("b") == OLD
            assert storage.link_count("a") == 2
            assert storage.names("") == ["a", "b"]

    # -- folders and removal ---------------------------------------------------------------------

    def test_folders_are_made_with_those_above_them(self, storage: LocalStorage) -> None:
        storage.make_folder("a/b/c")
        storage.make_folder("a/b/c")
        assert (storage.folders(""), storage.folders("a"), storage.folders("a/b")) == (
            ["a"],
            ["b"],
            ["c"],
        )

    def test_every_new_folder_is_durable_in_its_parent(self, storage: LocalStorage) -> None:
        posix = self._recording()
        self.through(storage, posix).make_folder("a/b")
        assert _order(posix) == ["name a", "sync folder", "name b", "sync folder"]

    def test_a_folder_that_was_there_is_made_durable_all_the_same(
        self, storage: LocalStorage
    ) -> None:
        storage.make_folder("a")
        posix = self._recording()
        self.through(storage, posix).make_folder("a")
        assert _order(posix) == ["sync folder"]

    def test_an_exclusive_folder_must_be_new_and_a_file_is_no_folder(
        self, storage: LocalStorage
    ) -> None:
        storage.make_folder("a", exclusive=True)
        with pytest.raises(FileExistsError):
            storage.make_folder("a", exclusive=True)
        storage.publish("file", [b""])
        with pytest.raises(FileExistsError):
            storage.make_folder("file")

    def test_removing_is_told_apart_from_nothing_to_remove(self, storage: LocalStorage) -> None:
        storage.make_folder("a")
        storage.publish("a/b", [b""])
        assert storage.remove_folder("a") is False
        assert storage.remove("a/b") is True
        assert storage.remove("a/b") is False
        assert storage.remove_folder("a") is True
        assert storage.remove_folder("a") is False

    def test_syncing_a_folder_that_is_gone_is_an_error_unless_it_may_be(
        self, storage: LocalStorage
    ) -> None:
        storage.make_folder("a")
        assert storage.sync_folder("a") is True
        assert storage.sync_folder("gone", gone_ok=True) is False
        with pytest.raises(SaveError):
            storage.sync_folder("gone")

    # -- appending -------------------------------------------------------------------------------

    def test_an_append_shows_the_tail_that_it_continues(self, storage: LocalStorage) -> None:
        self._needs_appends()
        with storage.appending("log") as file:
            assert (file.nbytes, file.tail(4)) == (0, b"")
            file.append(b"0123456789", durable=True)
            assert (file.nbytes, file.tail(4), file.tail(100)) == (10, b"6789", b"0123456789")
        with storage.appending("log") as file:
            assert file.tail(3) == b"789"
        assert storage.read("log") == b"0123456789"

    def test_a_durable_append_is_synced_before_it_returns(self, storage: LocalStorage) -> None:
        self._needs_appends()
        posix = self._recording()
        with self.through(storage, posix).appending("log") as file:
            file.append(b"line\n", durable=False)
            assert _order(posix) == ["name log", "write"]
            file.append(b"line\n", durable=True)
            assert _order(posix)[2:] == ["write", "sync file"]

    def test_appends_of_several_processes_never_mix(
        self, storage: LocalStorage, tmp_path: Path
    ) -> None:
        self._needs_appends()
        # All begin at once: a pipe says so by its end.
        ready, go = os.pipe()
        children = []
        for name in "abcd":
            child = os.fork()
            if child == 0:
                os.close(go)
                os.read(ready, 1)
                told = tmp_path / f"told-{name}"
                os._exit(in_child(partial(_append_many, storage, name), told))
            children.append(child)
        os.close(ready)
        os.close(go)
        ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        assert ends == [0] * 4
        lines = storage.read("log").decode().splitlines()
        assert len(lines) == 400
        for name in "abcd":
            own = [line for line in lines if line.startswith(f"{name} ")]
            assert own == [f"{name} {n} {'x' * (n % 7)}" for n in range(100)]

    # -- what the tests go by --------------------------------------------------------------------

    def _recording(self) -> RecordingPosix:
        if not self.injectable:
            pytest.skip("the order of this medium's calls cannot be recorded")
        return RecordingPosix()

    def _needs_appends(self) -> None:
        if not self.appends:
            pytest.skip("the medium cannot append to a file")


def _append_many(storage: LocalStorage, name: str) -> None:
    for number in range(100):
        with storage.appending("log") as file:
            # Two pieces, with what others would do in between.
            file.append(f"{name} {number} ".encode(), durable=False)
            os.sched_yield()
            file.append(b"x" * (number % 7) + b"\n", durable=False)


def _order(posix: RecordingPosix) -> list[str]:
    """Returns what was done, in order, as words; temporary names left out."""
    words = []
    for operation in posix.operations:
        if isinstance(operation, Data):
            words.append("write")
        elif isinstance(operation, Synced):
            words.append("sync file" if isinstance(operation.what, int) else "sync folder")
        elif isinstance(operation, Naming) and not Path(operation.name).name.startswith("."):
            words.append(f"name {operation.name}")
    return words
