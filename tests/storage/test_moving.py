"""What makes way keeps a durable name at every moment."""

import pytest

from holdfast.storage import LocalStorage, replace, set_aside
from holdfast.storage.faults import Crashed, Fault, FaultyPosix
from holdfast.storage.recording import RecordingPosix
from holdfast.testing.disk import Disk, Image
from tests.storage.faulty import Recorder, names_in, without_links


@pytest.fixture
def root(tmp_path):
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "one").write_bytes(b"damaged")
    return tmp_path


def test_the_new_name_is_durable_before_the_old_one_goes(root):
    recorder = Recorder()
    assert set_aside(LocalStorage(root, posix=recorder.posix), "shards/one") == (
        "quarantine/shards+one"
    )
    assert recorder.lines == [
        "mkdir quarantine",
        f"fsync_folder {root.name}",
        "link one shards+one",
        "fsync_folder quarantine",
        "unlink one",
        "fsync_folder shards",
    ]


@pytest.mark.parametrize("copy", [False, True])
def test_a_second_of_the_same_name_finds_a_place_beside_the_first(root, copy):
    storage = LocalStorage(root)
    set_aside(storage, "shards/one", copy=copy)
    (root / "shards" / "one").unlink(missing_ok=True)
    (root / "shards" / "one").write_bytes(b"again")
    assert set_aside(storage, "shards/one", copy=copy) == "quarantine/shards+one.2"
    assert names_in(root / "quarantine") == ["shards+one", "shards+one.2"]
    assert (root / "shards" / "one").exists() == copy
    assert (root / "quarantine" / "shards+one.2").read_bytes() == b"again"


def test_without_hard_links_it_is_copied(root):
    set_aside(LocalStorage(root, posix=without_links()), "shards/one")
    assert (root / "quarantine" / "shards+one").read_bytes() == b"damaged"
    assert names_in(root / "shards") == []


def test_a_power_cut_at_any_moment_leaves_its_bytes_under_some_name(root):
    image, known = Image.read(root)
    posix = RecordingPosix(known)
    set_aside(LocalStorage(root, posix=posix), "shards/one")
    disk = Disk(image)
    for number, operation in enumerate(posix.operations):
        disk.do(number, operation)
        for kept in ({}, *({other: None} for other in disk.pending)):
            after = disk.after_crash(kept)
            reachable = {
                after.data[number]
                for folder in (f"{root}/shards", f"{root}/quarantine")
                for number in after.names.get(folder, {}).values()
                if folder.endswith("shards") or "quarantine" in after.names[str(root)]
            }
            assert b"damaged" in reachable, (operation, kept)


def test_killed_at_any_call_its_bytes_are_somewhere(root):
    for at in range(1, 8):
        (root / "shards" / "one").write_bytes(b"damaged")
        posix = FaultyPosix(Fault(at))
        try:
            set_aside(LocalStorage(root, posix=posix), "shards/one")
        except Crashed:
            contents = {path.read_bytes() for path in root.rglob("*one*")}
            assert contents == {b"damaged"}
        else:
            break
    else:
        raise AssertionError("it never came to its end")


def test_what_is_not_there_cannot_make_way(root):
    with pytest.raises(FileNotFoundError):
        set_aside(LocalStorage(root), "shards/two")


def test_a_replacement_is_durable_in_bytes_before_its_name_and_in_name_on_return(root):
    recorder = Recorder()
    storage = LocalStorage(root, posix=recorder.posix)
    (root / "shards" / "one").chmod(0o640)
    replace(storage, "shards/one", b"better")
    kinds = [line.split()[0] for line in recorder.lines]
    assert kinds[-2:] == ["rename", "fsync_folder"]
    assert "fsync" in kinds[: kinds.index("rename")]
    assert recorder.lines[-1] == "fsync_folder shards"
    assert (root / "shards" / "one").read_bytes() == b"better"
    assert (root / "shards" / "one").stat().st_mode & 0o777 == 0o640
