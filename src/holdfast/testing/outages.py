"""The part of the conformance of storage in which the medium fails, or the process ends."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NoReturn

import pytest

from holdfast.errors import SaveError, StorageFullError
from holdfast.storage import LocalStorage
from holdfast.storage.faults import CALLS, FAILING, Fault, FaultyPosix
from holdfast.testing.disturbing import KILLED, in_child
from holdfast.testing.medium import (
    APPENDING,
    CHANGES,
    LINKING,
    NEW,
    OLD,
    Change,
    Medium,
    Seen,
    begin,
    seen,
    unfinished,
)

WRITES: Final = ("write", "pwrite")
_ALL: Final = (*CHANGES, *LINKING, *APPENDING)
_ERRORS: Final = {
    errno.EIO: SaveError,
    errno.ENOSPC: StorageFullError,
    errno.EDQUOT: StorageFullError,
    errno.EMFILE: SaveError,
}
_EACH_CHANGE: Final = pytest.mark.parametrize("change", _ALL, ids=lambda change: change.name)


class Outages(Medium):
    """What holds when a call fails, a write is torn, or the process ends at any call."""

    @_EACH_CHANGE
    @pytest.mark.parametrize("code", _ERRORS, ids=lambda code: errno.errorcode[code])
    def test_a_failure_at_any_call_is_told_and_leaves_old_or_new(
        self, storage: LocalStorage, change: Change, code: int
    ) -> None:
        before, after = self._both_ends(storage, change)
        calls = self._counted(storage, change, FAILING[code])
        descriptors = _descriptors()
        failed = 0
        for number, posix in self._faults("fail", code):
            base = f"failed{number}"
            begin(storage, base)
            caught = self._caught(storage, change, base, posix)
            if not posix.fired:
                break
            failed += 1
            now = seen(storage, base)
            if caught is None:
                assert now == after, posix.fired
                continue
            assert type(caught) is _ERRORS[code], posix.fired
            assert os.strerror(code) in caught.message
            assert caught.hint
            assert _is_allowed(change, now, before, after), posix.fired
            assert unfinished(storage, base) == [], posix.fired
            if now == before:
                # What failed once is no obstacle for the next time.
                change.make(storage, base)
                assert seen(storage, base) == after
        assert failed == calls
        assert _descriptors() == descriptors

    @_EACH_CHANGE
    @pytest.mark.parametrize("action", ["crash", "tear"])
    def test_an_end_at_any_call_leaves_old_or_new(
        self, storage: LocalStorage, change: Change, action: str, tmp_path: Path
    ) -> None:
        before, after = self._both_ends(storage, change)
        calls = self._counted(storage, change, WRITES if action == "tear" else CALLS)
        states = 0
        for number, posix in self._faults(action, 0):
            base = f"ended{number}"
            begin(storage, base)
            work = partial(change.make, self.through(storage, posix), base)
            if not _ends(work, tmp_path / "told"):
                assert seen(storage, base) == after
                break
            states += 1
            now = seen(storage, base)
            assert _is_allowed(change, now, before, after), f"at call {number}"
        assert states == calls

    def test_a_full_medium_is_told_and_earlier_files_stay_readable(
        self, storage: LocalStorage
    ) -> None:
        self._needs_faults()
        storage.make_folder("f")
        storage.publish("f/kept", [OLD])
        posix = FaultyPosix(Fault(1, "fail", errno.ENOSPC, True, FAILING[errno.ENOSPC]))
        full = self.through(storage, posix)
        works: tuple[Callable[[], object], ...] = (
            lambda: full.publish("f/new", [NEW]),
            lambda: full.publish("f/kept", [NEW]),
            lambda: full.draft("f", "new", start=4096, expected=10_000),
        )
        for work in works:
            with pytest.raises(StorageFullError) as caught:
                work()
            assert caught.value.needed > 0
            assert caught.value.hint
        assert storage.read("f/kept") == OLD
        assert storage.names("f") == ["kept"]
        # A full medium still deletes.
        assert full.remove("f/kept") is True

    def test_what_cannot_fit_is_refused_before_a_byte_is_written(
        self, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self._needs_faults()
        posix = FaultyPosix()
        limited = self.through(storage, posix)
        monkeypatch.setattr(limited, "free_nbytes", lambda: 1 << 20)
        works: tuple[Callable[[], object], ...] = (
            lambda: limited.publish("a", [bytes(2 << 20)]),
            lambda: limited.draft("f", "a", start=4096, expected=2 << 20),
        )
        for work in works:
            with pytest.raises(StorageFullError) as caught:
                work()
            assert (caught.value.needed, caught.value.free) == (2 << 20, 1 << 20)
        assert posix.count == 0

    def test_a_failed_sync_is_never_tried_again_on_the_same_file(
        self, storage: LocalStorage
    ) -> None:
        self._needs_faults()
        fault = Fault(1, "fail", errno.EIO, True, ("fsync",))
        for change in CHANGES[:4]:
            posix = FaultyPosix(fault)
            begin(storage, change.name)
            with pytest.raises(SaveError):
                change.make(self.through(storage, posix), change.name)
            assert posix.count == 1, change.name

    # -- what the tests go by --------------------------------------------------------------------

    def _both_ends(self, storage: LocalStorage, change: Change) -> tuple[Seen, Seen]:
        """Returns the content before a change and after it."""
        self._needs_faults()
        if change in LINKING and not self.hard_links:
            pytest.skip("the medium has no hard links")
        if change in APPENDING and not self.appends:
            pytest.skip("the medium cannot append to a file")
        begin(storage, "undisturbed")
        before = seen(storage, "undisturbed")
        change.make(storage, "undisturbed")
        after = seen(storage, "undisturbed")
        return before, after

    def _counted(self, storage: LocalStorage, change: Change, calls: Sequence[str]) -> int:
        """Returns how many calls of these kinds a change takes."""
        begin(storage, "counted")
        posix = FaultyPosix(Fault(0, calls=calls))
        change.make(self.through(storage, posix), "counted")
        return posix.count

    def _needs_faults(self) -> None:
        if not self.injectable:
            pytest.skip("nothing can be put under this storage")

    def _faults(self, action: str, code: int) -> Iterator[tuple[int, FaultyPosix]]:
        number = 0
        while True:
            number += 1
            if action == "fail":
                yield number, FaultyPosix(Fault(number, "fail", code, calls=FAILING[code]))
            elif action == "tear":
                fault = Fault(number, "tear", calls=WRITES)
                yield number, FaultyPosix(fault, crash=_die)
            else:
                yield number, FaultyPosix(Fault(number), crash=_die)

    def _caught(
        self, storage: LocalStorage, change: Change, base: str, posix: FaultyPosix
    ) -> SaveError | StorageFullError | None:
        try:
            change.make(self.through(storage, posix), base)
        except (SaveError, StorageFullError) as error:
            return error
        return None


def _is_allowed(change: Change, now: Seen, before: Seen, after: Seen) -> bool:
    return now in (before, after) or change.between(now, after)


def _ends(work: Callable[[], object], told: Path) -> bool:
    """Does something in a child; returns whether the child was ended by its fault."""

    def act() -> None:
        work()

    status = in_child(act, told)
    assert status in (0, KILLED), told.read_text()
    return status == KILLED


def _die(name: str) -> NoReturn:
    del name
    os._exit(KILLED)


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
