"""Taking away: interrupted anywhere it is finished by calling it again, and no one else suffers."""

import errno

import pytest

from holdfast.engine import discard, names, reader
from holdfast.engine.manifest import encode
from holdfast.errors import SaveError
from holdfast.storage import LocalStorage
from holdfast.storage.faults import Crashed, Fault, FaultyPosix
from tests.engine.states import RUN, expected, ids, load, problems, save, save_several, state
from tests.storage.faulty import Recorder, WatchedPosix, failing


def rest_of(tmp_path):
    """Returns the paths of all files of a store."""
    return {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}


def shards_of(tmp_path):
    return list((tmp_path / "shards").rglob("*.safetensors"))


def test_deleting_takes_the_manifest_first_and_what_nobody_else_needs_with_it(tmp_path):
    storage = LocalStorage(tmp_path)
    made = save_several(storage, 3)
    recorder = Recorder()
    discard.delete(LocalStorage(tmp_path, posix=recorder.posix), RUN, made[1].id)
    assert recorder.lines[:2] == ["unlink manifest.json", f"fsync_folder {made[1].id}"]
    assert recorder.lines[-2:] == [f"rmdir {made[1].id}", "fsync_folder study+cnn"]
    assert ids(storage) == [made[0].id, made[2].id]
    for number in (0, 2):
        assert load(storage, made[number].id) == expected(state(number))
    discard.delete(storage, RUN, made[0].id)
    discard.delete(storage, RUN, made[2].id)
    assert shards_of(tmp_path) == []
    assert storage.names(names.folder_of_run(RUN)) == []


def test_deleting_what_is_gone_is_no_error(tmp_path):
    storage = LocalStorage(tmp_path)
    (manifest,) = save_several(storage, 1)
    discard.delete(storage, RUN, manifest.id)
    discard.delete(storage, RUN, manifest.id)
    assert ids(storage) == []


def test_thinning_publishes_the_next_generation_and_then_removes(tmp_path):
    storage = LocalStorage(tmp_path)
    manifest = save_several(storage, 2)[1]
    recorder = Recorder()
    thinner = discard.thin(LocalStorage(tmp_path, posix=recorder.posix), manifest, ["model"])
    first_removal = recorder.names.index("unlink")
    assert recorder.lines[first_removal - 1] == f"fsync_folder {manifest.id}"
    assert recorder.names[:first_removal].count("rename") == 1
    assert (thinner.generation, thinner.thinned, list(thinner.items)) == (
        2,
        ("optimizer",),
        ["model"],
    )
    assert thinner.nbytes == manifest.items["model"].nbytes
    assert reader.read_manifest(storage, RUN, manifest.id) == thinner
    assert load(storage, manifest.id) == {"model": expected(state(1))["model"]}
    assert not (tmp_path / manifest.folder / "optimizer.safetensors").exists()
    again = discard.thin(storage, thinner, ["model"])
    assert again == thinner
    nothing = discard.thin(storage, thinner, [])
    assert (nothing.generation, nothing.thinned) == (3, ("model", "optimizer"))
    assert storage.names(manifest.folder) == ["manifest.json"]


def count_calls(tmp_path, act):
    posix = FaultyPosix()
    act(LocalStorage(tmp_path, posix=posix))
    return posix.count


def prepared(folder):
    """Makes a store of three checkpoints that share shards, and one of another run."""
    folder.mkdir()
    storage = LocalStorage(folder)
    made = save_several(storage, 3)
    other = save(storage, 0, state(0), run="other").manifest
    return storage, made, other


ACTIONS = {
    "delete": lambda storage, victim: discard.delete(storage, RUN, victim.id),
    "thin": lambda storage, victim: discard.thin(
        storage, reader.read_manifest(storage, RUN, victim.id), ["model"]
    ),
}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("victim", [0, 1, 2])
def test_interrupted_after_any_call_it_is_finished_by_calling_it_again(tmp_path, action, victim):
    act = ACTIONS[action]
    _, made, _ = prepared(tmp_path / "whole")
    total = count_calls(tmp_path / "whole", lambda s: act(s, made[victim]))
    wanted = rest_of(tmp_path / "whole")
    assert total >= 6
    for number in range(1, total + 1):
        root = tmp_path / str(number)
        storage, made, other = prepared(root)
        posix = FaultyPosix(Fault(number))
        with pytest.raises(Crashed):
            act(LocalStorage(root, posix=posix), made[victim])
        # Half-way: what stays is untouched, and the victim is whole or gone.
        for step, manifest in enumerate(made):
            if step != victim:
                assert load(storage, manifest.id) == expected(state(step))
        assert load(storage, other.id, run="other") == expected(state(0))
        if made[victim].id in ids(storage):
            now = reader.read_manifest(storage, RUN, made[victim].id)
            assert problems(storage, now) == []
            act(storage, made[victim])
        else:
            discard.delete(storage, RUN, made[victim].id)
        assert rest_of(root) == wanted, number
        for path in shards_of(root):
            assert path.stat().st_nlink > 1


@pytest.mark.parametrize("call", ["unlink", "fsync_folder", "rmdir"])
def test_a_failing_medium_is_reported_and_calling_again_goes_on(tmp_path, call):
    storage = LocalStorage(tmp_path)
    made = save_several(storage, 2)
    broken = LocalStorage(tmp_path, posix=failing(call, errno.EIO))
    with pytest.raises(SaveError):
        discard.delete(broken, RUN, made[0].id)
    discard.delete(broken, RUN, made[0].id)
    assert storage.folders(names.folder_of_run(RUN)) == [made[1].id]
    assert load(storage, made[1].id) == expected(state(1))


@pytest.mark.parametrize("step", ["delete", "thin"])
def test_the_manifest_is_synced_again_by_whoever_finishes_for_one_who_died(tmp_path, step):
    storage = LocalStorage(tmp_path)
    (manifest,) = save_several(storage, 1)
    if step == "delete":
        (tmp_path / manifest.folder / "manifest.json").unlink()
    else:
        thinner = discard.thin(LocalStorage(tmp_path), manifest, ["model"])
        (tmp_path / manifest.folder / "optimizer.safetensors").write_bytes(b"left over")
        manifest = thinner
    recorder = Recorder()
    again = LocalStorage(tmp_path, posix=recorder.posix)
    discard.delete(again, RUN, manifest.id) if step == "delete" else discard.thin(
        again, manifest, ["model"]
    )
    gone = "unlink model.safetensors" if step == "delete" else "unlink optimizer.safetensors"
    synced = recorder.lines.index(f"fsync_folder {manifest.id}")
    assert synced < recorder.lines.index(gone)


def test_a_shard_is_let_go_by_the_last_of_two_that_leave_at_once(tmp_path):
    """Both look at the link count before either has removed its link."""
    storage = LocalStorage(tmp_path)
    first = save(storage, 0, state(0))
    second = save(storage, 1, state(0), parent=first.shards)
    started = []

    def other_goes_first(name, arguments):
        if name == "unlink" and arguments[0].endswith("model.safetensors") and not started:
            started.append(True)
            discard.delete(storage, RUN, second.manifest.id)

    racing = LocalStorage(tmp_path, posix=WatchedPosix(other_goes_first))
    discard.delete(racing, RUN, first.manifest.id)
    assert started
    assert shards_of(tmp_path) == []


def test_the_copy_of_a_shard_takes_no_name_of_another_checkpoints_along(tmp_path):
    storage = LocalStorage(tmp_path)
    first = save(storage, 0, state(0))
    copied = save(storage, 1, state(0), links=False)
    kept = shards_of(tmp_path)
    discard.delete(storage, RUN, copied.manifest.id)
    assert shards_of(tmp_path) == kept
    assert load(storage, first.manifest.id) == expected(state(0))


@pytest.mark.parametrize("call", ["fsync_folder", "unlink", "rmdir"])
def test_two_that_delete_the_same_checkpoint_at_once_both_succeed(tmp_path, call):
    storage = LocalStorage(tmp_path)
    made = save(storage, 0, state(0))
    started = []

    def other_goes_first(name, _):
        if name == call and not started:
            started.append(True)
            discard.delete(storage, RUN, made.manifest.id)

    racing = LocalStorage(tmp_path, posix=WatchedPosix(other_goes_first))
    discard.delete(racing, RUN, made.manifest.id)
    assert started
    assert rest_of(tmp_path) == set()


def test_what_somebody_else_put_there_stays(tmp_path):
    storage = LocalStorage(tmp_path)
    (manifest,) = save_several(storage, 1)
    notes = tmp_path / manifest.folder / "notes"
    notes.mkdir()
    (notes / "a.txt").write_text("mine")
    discard.delete(storage, RUN, manifest.id)
    assert ids(storage) == []
    assert (notes / "a.txt").read_text() == "mine"
    assert shards_of(tmp_path) == []


def test_a_damaged_shard_does_not_stop_a_deletion_and_the_sweep_takes_the_rest(tmp_path):
    storage = LocalStorage(tmp_path)
    made = save_several(storage, 2)
    for path in (tmp_path / made[0].folder).glob("*.safetensors"):
        path.chmod(0o644)
        path.write_bytes(b"\xff" * path.stat().st_size)
    discard.delete(storage, RUN, made[0].id)
    assert ids(storage) == [made[1].id]
    # By their headers they could not be recognised: their names under shards/ are left.
    left = [path for path in shards_of(tmp_path) if path.stat().st_nlink == 1]
    assert left
    count, nbytes = discard.sweep_shards(storage)
    assert (count, nbytes > 0) == (len(left), True)
    assert all(path.stat().st_nlink > 1 for path in shards_of(tmp_path))
    assert discard.sweep_shards(storage) == (0, 0)


def test_strays_are_what_the_manifest_does_not_name(tmp_path):
    storage = LocalStorage(tmp_path)
    (manifest,) = save_several(storage, 1)
    (tmp_path / manifest.folder / ".tmp-manifest.json-1-2-3").write_bytes(encode(manifest)[:50])
    assert discard.remove_strays(storage, manifest) == [".tmp-manifest.json-1-2-3"]
    assert discard.remove_strays(storage, manifest) == []
    assert problems(storage, manifest) == []
