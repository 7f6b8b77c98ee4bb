"""Drafts: whatever is appended in whatever pieces, the file has exactly these bytes or no name."""

import errno
import mmap
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import SaveError, StorageFullError
from holdfast.storage import LocalStorage, Posix, draft
from holdfast.storage.draft import ALIGNMENT, address_of
from holdfast.storage.faults import Fault, FaultyPosix
from tests.storage.faulty import Recorder, failing, names_in

HEADER = bytes(range(256)) * (ALIGNMENT // 256)
LARGE = 1 << 20
DIRECT = pytest.mark.parametrize("direct", [True, False], ids=["direct", "buffered"])


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Makes what takes many megabytes happen within a few kilobytes."""
    monkeypatch.setattr(draft, "_PIECE_NBYTES", 5 * ALIGNMENT)
    monkeypatch.setattr(draft, "_GATHER_NBYTES", 3 * ALIGNMENT)
    monkeypatch.setattr(draft, "_STRAIGHT_NBYTES", 2 * ALIGNMENT)


def storage_at(folder, *, direct=True, posix=None):
    storage = LocalStorage(folder, posix=posix)
    storage.direct = direct
    return storage


def begun(storage, *, start=ALIGNMENT, expected=LARGE):
    return storage.draft(".", "a", start=start, expected=expected)


def buffer(data, *, odd=0):
    """Returns bytes that lie so many bytes behind a multiple of the alignment."""
    memory = mmap.mmap(-1, len(data) + 2 * ALIGNMENT)
    view = memoryview(memory)
    begin = -address_of(view) % ALIGNMENT + odd
    view[begin : begin + len(data)] = data
    return view[begin : begin + len(data)]


def noise(nbytes, seed=1):
    """Returns bytes of which no two neighbourhoods are alike."""
    return b"".join((n * 2654435761 + seed).to_bytes(8, "little") for n in range(nbytes // 8 + 1))[
        :nbytes
    ]


def write_all(storage, parts):
    """Writes a file of a header and parts; discards it when the medium fails, as a save does."""
    writing = begun(storage)
    try:
        for part in parts:
            writing.append(part)
        writing.fill_start(HEADER)
        storage.publish_draft(writing, "a")
    except BaseException:
        writing.discard()
        raise
    return writing


SIZES = [0, 1, 4095, 4096, 4097, 8192, 8193, 3 * 4096, 3 * 4096 + 1, 5 * 4096, 6 * 4096, 50_001]


@settings(max_examples=150, deadline=None)
@given(
    parts=st.lists(
        st.tuples(st.sampled_from(SIZES) | st.integers(0, 30_000), st.sampled_from([0, 1, 512])),
        max_size=6,
    ),
    direct=st.booleans(),
)
def test_any_pieces_in_a_row_are_the_bytes_of_the_file(tmp_path_factory, parts, direct):
    folder = tmp_path_factory.mktemp("draft")
    contents = [noise(size, seed) for seed, (size, _) in enumerate(parts)]
    storage = storage_at(folder, direct=direct)
    writing = begun(storage)
    total = ALIGNMENT
    for content, (_, odd) in zip(contents, parts, strict=True):
        assert writing.nbytes == total
        writing.append(buffer(content, odd=odd))
        total += len(content)
    assert writing.nbytes == total
    writing.fill_start(HEADER)
    storage.publish_draft(writing, "a")
    assert (folder / "a").read_bytes() == HEADER + b"".join(contents)
    assert names_in(folder) == ["a"]


@DIRECT
def test_what_was_appended_may_change_at_once(tmp_path, direct):
    storage = storage_at(tmp_path, direct=direct)
    memory = bytearray(buffer(noise(100)))
    large = buffer(noise(40_000))
    content = bytes(memory) + bytes(large)
    writing = begun(storage)
    for part in (memory, large):
        writing.append(part)
        part[:] = bytes(len(part))
    writing.fill_start(HEADER)
    storage.publish_draft(writing, "a")
    assert (tmp_path / "a").read_bytes() == HEADER + content


def test_a_header_larger_than_what_is_gathered_at_once_stands_at_the_front(tmp_path):
    storage = storage_at(tmp_path)
    header = noise(7 * ALIGNMENT)
    writing = begun(storage, start=len(header))
    writing.append(b"tail")
    writing.fill_start(header)
    storage.publish_draft(writing, "a")
    assert (tmp_path / "a").read_bytes() == header + b"tail"


def test_a_header_of_another_length_than_the_room_left_for_it_is_a_defect(tmp_path):
    writing = begun(storage_at(tmp_path))
    with pytest.raises(ValueError, match="4095 bytes for the 4096"):
        writing.fill_start(HEADER[1:])
    writing.discard()
    with pytest.raises(ValueError, match="closed"):
        writing.fill_start(HEADER)


@DIRECT
def test_what_is_published_is_read_only_and_durable_before_it_has_its_name(tmp_path, direct):
    recorder = Recorder()
    write_all(storage_at(tmp_path, direct=direct, posix=recorder.posix), [buffer(noise(30_000))])
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o444
    kinds = recorder.names
    assert kinds[-3:] == ["fsync", "close", "rename"]
    assert set(kinds[1:-3]) == {"pwrite", "truncate"} if direct else {"pwrite"}
    assert [line.split()[-1] for line in recorder.lines if line.startswith("rename")] == ["a"]


class Counted(Posix):
    """Notes how a file is written."""

    def __init__(self):
        self.direct_files = 0
        self.writes = []
        self.buffered_from = None

    def create(self, path, mode, *, direct=False):
        self.direct_files += direct
        return super().create(path, mode, direct=direct)

    def make_buffered(self, fd):
        self.buffered_from = len(self.writes)
        super().make_buffered(fd)

    def pwrite(self, fd, data, offset):
        self.writes.append((address_of(memoryview(data)), len(data), offset))
        return super().pwrite(fd, data, offset)


def test_direct_writes_are_aligned_in_memory_length_and_place(tmp_path):
    posix = Counted()
    parts = [buffer(noise(n, n), odd=odd) for n, odd in ((10, 3), (50_000, 0), (9000, 1), (1, 0))]
    writing = write_all(storage_at(tmp_path, posix=posix), [buffer(noise(70_001)), *parts])
    assert (posix.direct_files, posix.buffered_from) == (1, None)
    assert writing.direct
    assert all(n % ALIGNMENT == 0 for write in posix.writes for n in write)
    # Straight from where it lies, in large pieces.
    assert [length for _, length, _ in posix.writes[:3]] == [5 * ALIGNMENT] * 3


def test_large_parts_are_written_from_where_they_lie_whatever_came_before(tmp_path):
    posix = Counted()
    large = buffer(noise(30_000), odd=1)
    write_all(storage_at(tmp_path, direct=False, posix=posix), [b"little", large])
    assert (address_of(large), 5 * ALIGNMENT, ALIGNMENT + 6) in posix.writes


def test_what_comes_behind_the_header_is_in_the_file_too(tmp_path):
    storage = storage_at(tmp_path)
    writing = begun(storage)
    writing.fill_start(HEADER)
    writing.append(b"tail")
    storage.publish_draft(writing, "a")
    assert (tmp_path / "a").read_bytes() == HEADER + b"tail"


@pytest.mark.parametrize(("expected", "direct"), [(256 << 10, 1), ((256 << 10) - 1, 0)])
def test_small_files_go_through_the_page_cache(tmp_path, expected, direct):
    posix = Counted()
    writing = begun(storage_at(tmp_path, posix=posix), expected=expected)
    writing.discard()
    assert posix.direct_files == direct


class Short(Counted):
    """A medium that takes only so many bytes of each write."""

    def __init__(self, most):
        super().__init__()
        self.most = most

    def pwrite(self, fd, data, offset):
        return super().pwrite(fd, memoryview(data)[: self.most], offset)


@pytest.mark.parametrize("most", [ALIGNMENT, 2 * ALIGNMENT, 1000, 1])
@DIRECT
def test_short_writes_are_looped_and_odd_ones_end_direct_writing(tmp_path, most, direct):
    posix = Short(most)
    content = noise(20_000)
    writing = write_all(storage_at(tmp_path, direct=direct, posix=posix), [buffer(content)])
    assert (tmp_path / "a").read_bytes() == HEADER + content
    assert writing.direct == (direct and most % ALIGNMENT == 0)


def test_a_write_that_takes_nothing_does_not_go_on_for_ever(tmp_path):
    with pytest.raises(SaveError, match="took no bytes"):
        write_all(storage_at(tmp_path, posix=Short(0)), [buffer(noise(20_000))])
    assert names_in(tmp_path) == []


class NotDirect(Counted):
    """A medium that takes no direct writes, and says so at the creation or at a write.

    Args:
        at: The write that is refused; None for the creation.
        made: Whether a refused creation leaves a file, as some systems do.
    """

    def __init__(self, at=None, *, made=True):
        super().__init__()
        self.at = at
        self.made = made

    def create(self, path, mode, *, direct=False):
        if direct and self.at is None:
            if self.made:
                os.close(super().create(path, mode))
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return super().create(path, mode, direct=direct)

    def pwrite(self, fd, data, offset):
        if self.buffered_from is None and len(self.writes) == self.at:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return super().pwrite(fd, data, offset)


PARTS = [noise(30_000), noise(10, 2), noise(9000, 3), noise(4096, 4), noise(1, 5)]


@pytest.mark.parametrize("made", [True, False])
def test_a_medium_that_opens_nothing_for_direct_writing_is_written_all_the_same(tmp_path, made):
    posix = NotDirect(made=made)
    writing = write_all(storage_at(tmp_path, posix=posix), [buffer(part) for part in PARTS])
    assert not writing.direct
    assert posix.buffered_from is None
    assert (tmp_path / "a").read_bytes() == HEADER + b"".join(PARTS)
    assert names_in(tmp_path) == ["a"]


@pytest.mark.parametrize("at", range(5))
def test_a_medium_that_refuses_a_direct_write_gets_the_rest_through_the_cache(tmp_path, at):
    posix = NotDirect(at)
    writing = write_all(storage_at(tmp_path, posix=posix), [buffer(part) for part in PARTS])
    assert not writing.direct
    assert posix.buffered_from == at
    assert (tmp_path / "a").read_bytes() == HEADER + b"".join(PARTS)


def test_an_invalid_write_that_is_not_direct_is_an_error(tmp_path):
    with pytest.raises(SaveError, match="Invalid argument"):
        write_all(
            storage_at(tmp_path, direct=False, posix=failing("pwrite", errno.EINVAL)),
            [buffer(noise(100))],
        )
    assert names_in(tmp_path) == []


def calls_of(folder, direct):
    recorder = Recorder()
    folder.mkdir()
    write_all(storage_at(folder, direct=direct, posix=recorder.posix), map(buffer, PARTS))
    return recorder.names


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (errno.EIO, SaveError),
        (errno.ENOSPC, StorageFullError),
        (errno.EDQUOT, StorageFullError),
        (errno.EMFILE, SaveError),
    ],
)
@DIRECT
def test_a_failure_at_any_call_leaves_nothing_behind(tmp_path, direct, code, error):
    calls = calls_of(tmp_path / "counted", direct)
    assert {"create", "pwrite", "fsync", "close", "rename"} <= set(calls)
    folder = tmp_path / "failed"
    folder.mkdir()
    descriptors = len(names_in(Path("/proc/self/fd")))
    for number, call in enumerate(calls, start=1):
        with pytest.raises(error) as caught:
            write_all(
                storage_at(folder, direct=direct, posix=FaultyPosix(Fault(number, "fail", code))),
                map(buffer, PARTS),
            )
        assert type(caught.value) is error, call
        assert os.strerror(code) in caught.value.message
        assert caught.value.hint
        assert names_in(folder) == [], call
    assert len(names_in(Path("/proc/self/fd"))) == descriptors


def test_a_failed_sync_is_never_tried_again_on_the_same_file(tmp_path):
    synced = []

    class Failing(Posix):
        def fsync(self, fd):
            synced.append(fd)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(SaveError):
        write_all(storage_at(tmp_path, posix=Failing()), map(buffer, PARTS))
    assert len(synced) == 1


@pytest.mark.parametrize("change", [-1, 1])
@DIRECT
def test_a_file_that_was_cut_or_extended_meanwhile_gets_no_name(tmp_path, direct, change):
    storage = storage_at(tmp_path, direct=direct)
    writing = begun(storage)
    writing.append(buffer(noise(20_000)))
    writing.fill_start(HEADER)
    (temporary,) = tmp_path.iterdir()
    os.truncate(temporary, ALIGNMENT + 20_000 + change)
    with pytest.raises(SaveError, match=f"{ALIGNMENT + 20_000 + change} bytes after writing"):
        storage.publish_draft(writing, "a")
    writing.discard()
    assert names_in(tmp_path) == []


def test_discarding_twice_and_after_publishing_takes_nothing_away(tmp_path):
    storage = storage_at(tmp_path)
    written = write_all(storage, [b"x"])
    given_up = begun(storage)
    given_up.append(buffer(noise(20_000)))
    for _ in range(2):
        given_up.discard()
        written.discard()
    assert names_in(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == HEADER + b"x"


def test_what_cannot_fit_is_refused_before_a_file_is_made(tmp_path, monkeypatch):
    recorder = Recorder()
    storage = storage_at(tmp_path, posix=recorder.posix)
    monkeypatch.setattr(storage, "free_nbytes", lambda: LARGE)
    with pytest.raises(StorageFullError) as caught:
        begun(storage, expected=2 * LARGE)
    assert (caught.value.needed, caught.value.free) == (2 * LARGE, LARGE)
    assert recorder.lines == []


def test_two_drafts_of_one_name_have_files_of_their_own(tmp_path):
    storage = storage_at(tmp_path)
    one, other = begun(storage), begun(storage)
    for writing, content in ((one, b"one"), (other, b"other")):
        writing.append(content)
        writing.fill_start(HEADER)
    storage.publish_draft(one, "a")
    storage.publish_draft(other, "b")
    assert (tmp_path / "a").read_bytes()[ALIGNMENT:] == b"one"
    assert (tmp_path / "b").read_bytes()[ALIGNMENT:] == b"other"
