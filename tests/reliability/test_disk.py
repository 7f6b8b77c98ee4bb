"""The model of a disk: what is durable, what a crash may undo, and that the model is real."""

import pytest

from holdfast.storage import LocalStorage
from holdfast.storage.recording import Data, RecordingPosix, Synced
from holdfast.testing.disk import Disk, Image, Torn


@pytest.fixture
def recorded(tmp_path):
    """Returns a store's files, and a disk that did what was done to them."""

    class Recorded:
        def __init__(self):
            self.root = tmp_path / "store"
            self.root.mkdir()
            (self.root / "old").write_bytes(b"old")
            image, known = Image.read(self.root)
            self.posix = RecordingPosix(known)
            self.storage = LocalStorage(self.root, posix=self.posix)
            self.start = image

        def disk(self):
            disk = Disk(self.start)
            for number, operation in enumerate(self.posix.operations):
                disk.do(number, operation)
            return disk

        def after(self, kept, name="after"):
            target = tmp_path / name
            self.disk().after_crash(kept).write(str(self.root), target)
            return tree(target)

    return Recorded()


def tree(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def everything(disk):
    return dict.fromkeys(disk.pending)


def test_all_that_was_done_and_kept_is_what_is_there(recorded):
    storage = recorded.storage
    storage.make_folder("a/b")
    storage.publish("a/b/file", [b"one", b"two"])
    storage.link("a/b/file", "a/second")
    storage.publish("a/b/file", [b"three"], sync_folder=False)
    with storage.appending("a/log") as file:
        file.append(b"line\n", durable=False)
    storage.remove("a/second")
    storage.relink("a/b/file", "old")
    storage.make_folder("gone")
    storage.remove_folder("gone")
    assert recorded.after(everything(recorded.disk())) == tree(recorded.root)


def test_what_was_synced_is_there_when_all_else_is_lost(recorded):
    storage = recorded.storage
    storage.make_folder("a")
    storage.publish("a/kept", [b"kept"])
    storage.publish("a/lost", [b"lost"], sync_folder=False)
    assert recorded.after({}) == {"a": None, "a/kept": b"kept", "old": b"old"}


def test_a_folder_that_is_not_synced_into_its_parent_takes_all_in_it_along(recorded):
    storage = recorded.storage
    storage.make_folder("a", durable=False)
    storage.publish("a/kept", [b"kept"])
    assert recorded.after({}) == {"old": b"old"}


def test_a_name_without_its_bytes_is_an_empty_file(recorded):
    posix = recorded.posix
    fd = posix.create(str(recorded.root / "new"), 0o600)
    posix.write(fd, [b"bytes"])
    posix.close(fd)
    posix.fsync_folder(str(recorded.root))
    assert recorded.after({})["new"] == b""


def test_a_torn_write_keeps_its_length_and_some_sectors(recorded):
    posix = recorded.posix
    fd = posix.create(str(recorded.root / "new"), 0o600)
    posix.write(fd, [b"a" * 1024])
    disk = recorded.disk()
    write = next(n for n, operation in disk.pending.items() if isinstance(operation, Data))
    kept = {**everything(disk), write: Torn(512, 1024)}
    assert recorded.after(kept)["new"] == bytes(512) + b"a" * 512


def test_two_names_of_one_file_stay_one_file(recorded, tmp_path):
    recorded.storage.link("old", "second")
    recorded.after(everything(recorded.disk()))
    assert (tmp_path / "after" / "old").stat().st_nlink == 2


def test_states_are_told_apart_by_bytes_names_and_which_names_are_one_file(recorded):
    storage = recorded.storage
    storage.link("old", "linked")
    storage.publish("copied", [b"old"], sync_folder=False)
    disk = recorded.disk()
    root = str(recorded.root)
    linked, *copied = disk.pending
    contents = {
        "nothing": {},
        "another name": {linked: None},
        "another file": dict.fromkeys(copied),
        "both": everything(disk),
    }
    digests = {disk.after_crash(kept).digest(root) for kept in contents.values()}
    assert len(digests) == len(contents)
    assert disk.after_crash({}).digest(root) in digests


def test_a_sync_of_one_file_says_nothing_about_another(recorded):
    posix = recorded.posix
    first, second = (posix.create(str(recorded.root / name), 0o600) for name in "ab")
    posix.write(first, [b"first"])
    posix.write(second, [b"second"])
    posix.fsync(first)
    posix.fsync_folder(str(recorded.root))
    found = recorded.after({})
    assert (found["a"], found["b"]) == (b"first", b"")
    assert sum(isinstance(operation, Synced) for operation in posix.operations) == 2
