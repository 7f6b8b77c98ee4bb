"""Publishing: a name exists only with all of its bytes durable, or nothing is left behind."""

import errno
import os
import stat

import pytest

from holdfast.errors import SaveError, StorageFullError
from holdfast.storage import LocalStorage, Posix
from tests.storage.faulty import Recorder, WatchedPosix, failing, without_links

CONTENT = [b"head", memoryview(b"body"), bytearray(b"tail")]
BYTES = b"headbodytail"


def files_in(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


def test_all_parts_are_written_and_the_file_is_read_only(tmp_path):
    storage = LocalStorage(tmp_path)
    assert storage.publish("a", CONTENT) == len(BYTES)
    assert (tmp_path / "a").read_bytes() == BYTES
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o444
    assert files_in(tmp_path) == ["a"]


def test_bytes_are_synced_before_the_name_and_the_name_before_the_return(tmp_path):
    recorder = Recorder()
    LocalStorage(tmp_path, posix=recorder.posix).publish("a", CONTENT)
    assert recorder.names == ["create", "write", "fsync", "close", "rename", "fsync_folder"]
    created, renamed = recorder.lines[0].split()[1], recorder.lines[4].split()[1:]
    assert created.startswith(".tmp-")
    assert renamed == [created, "a"]


def test_a_caller_that_syncs_the_folder_itself_saves_that_call(tmp_path):
    recorder = Recorder()
    LocalStorage(tmp_path, posix=recorder.posix).publish("a", CONTENT, sync_folder=False)
    assert "fsync_folder" not in recorder.names
    assert "fsync" in recorder.names


def test_the_final_name_never_shows_an_unfinished_file(tmp_path):
    seen = []

    def look(_name, _arguments):
        seen.append((tmp_path / "a").exists())

    LocalStorage(tmp_path, posix=WatchedPosix(look)).publish("a", CONTENT)
    # Only at the last call, the folder's sync, the name is there.
    assert seen == [False] * (len(seen) - 1) + [True]


def test_two_publishers_of_one_name_use_different_temporary_files(tmp_path):
    recorder = Recorder()
    storage = LocalStorage(tmp_path, posix=recorder.posix)
    storage.publish("a", CONTENT)
    storage.publish("a", CONTENT)
    created = [line for line in recorder.lines if line.startswith("create")]
    assert len(set(created)) == 2


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (errno.EIO, SaveError),
        (errno.ENOSPC, StorageFullError),
        (errno.EDQUOT, StorageFullError),
        (errno.EMFILE, SaveError),
    ],
)
@pytest.mark.parametrize("call", ["create", "write", "fsync", "close", "rename"])
def test_a_failing_call_leaves_nothing_behind(tmp_path, call, code, error):
    storage = LocalStorage(tmp_path, posix=failing(call, code))
    with pytest.raises(error) as caught:
        storage.publish("a", CONTENT)
    assert type(caught.value) is error
    assert os.strerror(code) in caught.value.message
    assert caught.value.hint
    assert files_in(tmp_path) == []
    assert storage.publish("a", CONTENT) == len(BYTES)


def test_a_failed_fsync_is_never_tried_again_on_the_same_file(tmp_path):
    synced = []

    class Failing(Posix):
        def fsync(self, fd):
            synced.append(os.fstat(fd).st_ino)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(SaveError):
        LocalStorage(tmp_path, posix=Failing()).publish("a", CONTENT)
    assert len(synced) == 1


def test_a_failing_folder_sync_is_an_error_though_the_name_is_there(tmp_path):
    storage = LocalStorage(tmp_path, posix=failing("fsync_folder", errno.EIO))
    with pytest.raises(SaveError):
        storage.publish("a", CONTENT)
    assert files_in(tmp_path) == ["a"]


def test_short_writes_are_looped_and_a_lying_one_is_noticed(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:1]))
    assert LocalStorage(tmp_path).publish("a", CONTENT) == len(BYTES)
    assert (tmp_path / "a").read_bytes() == BYTES
    monkeypatch.setattr(os, "write", lambda _fd, data: len(data))
    with pytest.raises(SaveError, match="0 bytes after writing 12"):
        LocalStorage(tmp_path).publish("b", CONTENT)
    assert files_in(tmp_path) == ["a"]


def test_a_write_that_takes_nothing_does_not_go_on_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "write", lambda _fd, _data: 0)
    with pytest.raises(SaveError, match="took no bytes"):
        LocalStorage(tmp_path).publish("a", CONTENT)


@pytest.mark.parametrize("posix", [Posix, without_links], ids=["links", "no links"])
def test_an_exclusive_name_is_given_once(tmp_path, posix):
    storage = LocalStorage(tmp_path, posix=posix())
    storage.publish("a", [b"first"], exclusive=True)
    with pytest.raises(FileExistsError):
        storage.publish("a", [b"second"], exclusive=True)
    assert (tmp_path / "a").read_bytes() == b"first"
    assert files_in(tmp_path) == ["a"]


def test_a_name_is_replaced_as_a_whole(tmp_path):
    storage = LocalStorage(tmp_path)
    storage.publish("a", [b"old"])
    before = (tmp_path / "a").stat().st_ino
    storage.publish("a", [b"new"])
    assert (tmp_path / "a").read_bytes() == b"new"
    assert (tmp_path / "a").stat().st_ino != before


def test_what_cannot_fit_is_refused_before_a_byte_is_written(tmp_path, monkeypatch):
    recorder = Recorder()
    storage = LocalStorage(tmp_path, posix=recorder.posix)
    monkeypatch.setattr(storage, "free_nbytes", lambda: 1 << 20)
    with pytest.raises(StorageFullError) as caught:
        storage.publish("a", [bytes(2 << 20)])
    assert (caught.value.needed, caught.value.free) == (2 << 20, 1 << 20)
    assert recorder.lines == []


def test_every_folder_on_the_way_is_durable_in_its_parent(tmp_path):
    recorder = Recorder()
    LocalStorage(tmp_path, posix=recorder.posix).make_folder("a/b/c")
    assert recorder.lines == [
        "mkdir a", f"fsync_folder {tmp_path.name}",
        "mkdir b", "fsync_folder a",
        "mkdir c", "fsync_folder b",
    ]  # fmt: skip


def test_a_folder_of_somebody_who_died_before_syncing_it_is_synced(tmp_path):
    (tmp_path / "a").mkdir()
    recorder = Recorder()
    LocalStorage(tmp_path, posix=recorder.posix).make_folder("a")
    assert recorder.lines == ["mkdir a", f"fsync_folder {tmp_path.name}"]


def test_an_exclusive_folder_must_be_new_and_a_file_is_no_folder(tmp_path):
    storage = LocalStorage(tmp_path)
    storage.make_folder("a", exclusive=True)
    with pytest.raises(FileExistsError):
        storage.make_folder("a", exclusive=True)
    storage.publish("file", [b""])
    with pytest.raises(FileExistsError):
        storage.make_folder("file")


def test_removing_is_told_apart_from_nothing_to_remove(tmp_path):
    storage = LocalStorage(tmp_path)
    storage.make_folder("a")
    storage.publish("a/b", [b""])
    assert storage.remove_folder("a") is False
    assert storage.remove("a/b") is True
    assert storage.remove("a/b") is False
    assert storage.remove_folder("a") is True
    assert storage.remove_folder("a") is False
    for call in ("unlink", "rmdir"):
        broken = LocalStorage(tmp_path, posix=failing(call, errno.EIO))
        with pytest.raises(SaveError):
            broken.remove("x") if call == "unlink" else broken.remove_folder("x")
