"""A save: in the order that survives a crash, and paying only for what changed."""

import errno
import json
import os
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy

from holdfast import tree
from holdfast.engine import discard, names, reader
from holdfast.engine.commit import commit
from holdfast.engine.itemwriter import ParentShards
from holdfast.engine.snapshot import Snapshots
from holdfast.errors import IntegrityError, NotFoundError, SaveError, StorageFullError
from holdfast.storage import LocalStorage
from tests.engine.states import (
    RUN,
    draft,
    expected,
    ids,
    load,
    problems,
    save,
    save_several,
    state,
)
from tests.storage.faulty import Recorder, WatchedPosix, failing, without_links


@pytest.fixture
def storage(tmp_path):
    return LocalStorage(tmp_path)


def shard_files(tmp_path):
    return sorted((tmp_path / "shards").rglob("*.safetensors"))


def test_what_is_saved_is_read_back_bit_by_bit(storage):
    committed = save(storage, 0, state(0))
    assert ids(storage) == [committed.manifest.id]
    assert reader.read_manifest(storage, RUN, committed.manifest.id) == committed.manifest
    assert load(storage, committed.manifest.id) == expected(state(0))
    assert problems(storage, committed.manifest) == []


def test_shards_come_first_then_their_names_then_the_manifest(tmp_path):
    LocalStorage(tmp_path).make_folder(f"{names.folder_of_run(RUN)}")
    recorder = Recorder()
    storage = LocalStorage(tmp_path, posix=recorder.posix)
    manifest = save(storage, 0, state(0)).manifest
    kinds = [line.split()[0] for line in recorder.lines]
    finals = [line.split()[2] for line in recorder.lines if line.startswith("rename")]
    assert finals[-1] == "manifest.json"
    assert "manifest.json" not in finals[:-1]
    # Before the manifest has its name: everything synced, and the folder once more, last.
    manifest_at = max(i for i, line in enumerate(recorder.lines) if "create .tmp-manifest" in line)
    assert recorder.lines[manifest_at - 1] == f"fsync_folder {manifest.id}"
    assert kinds[manifest_at:] == ["create", "write", "fsync", "close", "rename", "fsync_folder"]
    assert recorder.lines[-1] == f"fsync_folder {manifest.id}"
    # Each file on its own: bytes durable before the name.
    for number, line in enumerate(recorder.lines):
        if line.startswith("rename"):
            begin = max(i for i in range(number) if kinds[i] == "create")
            file = [
                kind for kind in kinds[begin:number] if kind not in ("pwrite", "write", "truncate")
            ]
            assert file == ["create", "fsync", "close"]
            assert kinds[begin + 1] in ("pwrite", "write")


def test_the_manifest_counts_the_journal_that_was_durable_before_it(storage):
    saved = commit_with(storage, lambda: 77)
    assert reader.read_manifest(storage, RUN, saved.manifest.id).journal_nbytes == 77


def test_a_journal_that_fails_leaves_no_manifest(storage):
    def fail():
        raise SaveError("the journal failed", hint="none")

    with pytest.raises(SaveError, match="the journal failed"):
        commit_with(storage, fail)
    assert not list(storage.root.rglob(names.MANIFEST))


def commit_with(storage, journal):
    manifest = draft(0)
    storage.make_folder(manifest.folder)
    snapshot = Snapshots().take({"model": tree.flatten(state(0)["model"])})
    try:
        return commit(storage, manifest, snapshot, journal=journal)
    finally:
        snapshot.release()


def test_what_did_not_change_is_stored_once(storage, tmp_path):
    first, second, third = save_several(storage, 3)
    paths = [
        {s.file: tmp_path / m.folder / s.file for s in m.items["model"].shards}
        for m in (first, second, third)
    ]
    # The second save sees what rested; from then on it is shared.
    shared = [(a, b) for a in paths[1].values() for b in paths[2].values() if a.samefile(b)]
    assert len(shared) == 1
    assert shared[0][0].stat().st_nlink == 3
    assert third.stored_nbytes < third.nbytes / 5
    written = sum(p.stat().st_size for p in shard_files(tmp_path))
    assert written < 3 * first.nbytes


def test_the_same_state_once_more_writes_no_shard(storage):
    first = save(storage, 0, state(0))
    again = save(storage, 1, state(0), parent=first.shards)
    assert again.manifest.stored_nbytes == 0
    stranger = save(storage, 2, state(0))
    assert stranger.manifest.stored_nbytes == 0
    assert load(storage, stranger.manifest.id) == expected(state(0))


def test_another_run_shares_shards_by_content(storage):
    save(storage, 0, state(0))
    other = save(storage, 0, state(0), run="other")
    assert other.manifest.stored_nbytes == 0


def test_a_source_that_was_pruned_meanwhile_is_written_again(storage, tmp_path):
    first = save(storage, 0, state(0))
    discard.delete(storage, RUN, first.manifest.id)
    assert shard_files(tmp_path) == []
    second = save(storage, 1, state(0), parent=first.shards)
    assert second.manifest.stored_nbytes == first.manifest.stored_nbytes
    assert load(storage, second.manifest.id) == expected(state(0))


def test_a_source_that_vanishes_at_the_link_is_written_again(storage, tmp_path):
    first = save(storage, 0, state(0))

    def prune_first(name, _):
        if name == "link" and storage.size(f"{first.manifest.folder}/manifest.json"):
            discard.delete(storage, RUN, first.manifest.id)

    racing = LocalStorage(tmp_path, posix=WatchedPosix(prune_first))
    second = save(racing, 1, state(0), parent=first.shards)
    assert second.manifest.stored_nbytes > 0
    assert load(storage, second.manifest.id) == expected(state(0))


@pytest.mark.parametrize("harm", ["zeroed", "cut", "swapped", "header"])
def test_a_damaged_shard_is_not_spread_to_new_checkpoints(storage, tmp_path, harm):
    first = save(storage, 0, state(0))
    other = save(storage, 1, {"model": {"head": np.ones(100, "<f8")}})
    for shard in first.manifest.items["model"].shards:
        path = tmp_path / first.manifest.folder / shard.file
        path.chmod(0o644)
        data = path.read_bytes()
        swapped = (tmp_path / other.manifest.folder / "model.safetensors").read_bytes()
        path.write_bytes(
            {
                "zeroed": bytes(len(data)),
                "cut": data[:-1],
                "swapped": swapped + bytes(max(0, len(data) - len(swapped))),
                "header": data[:20] + b"X" + data[21:],
            }[harm]
        )
    parent = ParentShards.read(storage, first.manifest)
    second = save(storage, 2, state(0), parent=parent)
    assert load(storage, second.manifest.id) == expected(state(0))
    third = save(storage, 3, state(0), parent=second.shards)
    assert load(storage, third.manifest.id) == expected(state(0))


def test_at_the_limit_of_links_another_copy_is_written_and_shared(storage, tmp_path):
    first = save(storage, 0, state(0))
    refused = iter([errno.EMLINK] * 4)

    def refuse(name, _arguments):
        if name == "link" and (code := next(refused, None)):
            raise OSError(code, os.strerror(code))

    full = LocalStorage(tmp_path, posix=WatchedPosix(refuse))
    second = save(full, 1, state(0), parent=first.shards)
    assert second.manifest.stored_nbytes > 0
    assert load(storage, second.manifest.id) == expected(state(0))
    third = save(storage, 2, state(0), parent=second.shards)
    assert third.manifest.stored_nbytes == 0


def test_without_links_every_checkpoint_has_its_own_files(tmp_path):
    storage = LocalStorage(tmp_path, posix=without_links())
    made = save_several(storage, 3, links=False)
    assert not (tmp_path / "shards").exists()
    for number, manifest in enumerate(made):
        assert load(storage, manifest.id) == expected(state(number))
        assert manifest.stored_nbytes > manifest.nbytes
    discard.delete(storage, RUN, made[0].id)
    assert load(storage, made[1].id) == expected(state(1))


@pytest.mark.parametrize("call", ["create", "write", "fsync", "close", "rename", "fsync_folder"])
@pytest.mark.parametrize(
    ("code", "error"), [(errno.EIO, SaveError), (errno.ENOSPC, StorageFullError)]
)
def test_a_failing_medium_leaves_no_checkpoint_and_what_was_written_can_be_removed(
    storage, tmp_path, call, code, error
):
    kept = save(storage, 0, state(0)).manifest
    planned = draft(1)
    storage.make_folder(planned.folder)
    broken = LocalStorage(tmp_path, posix=failing(call, code))
    with pytest.raises(error):
        save(broken, 1, state(1, frozen=2.0))
    assert ids(storage) == [kept.id]
    discard.delete(storage, RUN, planned.id)
    assert storage.folders(names.folder_of_run(RUN)) == [kept.id]
    assert all(path.stat().st_nlink == 2 for path in shard_files(tmp_path))
    assert load(storage, kept.id) == expected(state(0))
    assert save(storage, 1, state(1)).manifest.id == planned.id


def test_an_item_of_several_shards_has_an_index_as_other_tools_read_it(storage, tmp_path):
    manifest = save_several(storage, 2)[1]
    item = manifest.items["model"]
    assert [s.file for s in item.shards] == [
        "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
    ]  # fmt: skip
    index = json.loads((tmp_path / manifest.folder / item.index.file).read_text())
    arrays = expected(state(1))["model"]
    assert index["metadata"]["total_size"] == sum(len(data) for data in arrays.values())
    assert set(index["weight_map"]) == set(arrays)
    for name, file in index["weight_map"].items():
        tensors = safetensors.numpy.load_file(tmp_path / manifest.folder / file)
        assert tensors[name].tobytes() == arrays[name]
    assert manifest.items["optimizer"].index is None


def test_published_files_cannot_be_written(storage, tmp_path):
    manifest = save(storage, 0, state(0)).manifest
    for path in (tmp_path / manifest.folder).iterdir():
        assert path.stat().st_mode & 0o777 == 0o444


def test_an_item_without_arrays_has_no_file(storage, tmp_path):
    manifest = save(storage, 0, {"notes": {"text": "a"}, "empty": {}}).manifest
    assert [p.name for p in (tmp_path / manifest.folder).iterdir()] == ["manifest.json"]
    assert manifest.items["notes"].skeleton == {"text": "a"}
    assert (manifest.nbytes, manifest.stored_nbytes) == (0, 0)


def test_tied_arrays_are_stored_once_and_found_under_both_names(storage):
    shared = np.arange(10, dtype="<f8")
    manifest = save(storage, 0, {"model": {"a": shared, "b": {"tied": shared}}}).manifest
    assert manifest.nbytes == 80
    loaded = load(storage, manifest.id)["model"]
    assert loaded["a"] == loaded["b.tied"] == shared.tobytes()


def test_what_is_saved_is_the_state_at_the_call(storage):
    live = state(0)
    pool = Snapshots()
    snapshot = pool.take({name: tree.flatten(value) for name, value in live.items()})
    live["model"]["head"][:] = -1
    live["optimizer"]["moments"].append(5)
    arrays = {a.name: b"".join(a.parts()) for a in snapshot.items["model"].arrays}
    assert arrays["head"] == expected(state(0))["model"]["head"]
    assert len(snapshot.items["optimizer"].skeleton["moments"]) == 1
    snapshot.release()
    # The memory is used again, and a snapshot of less fits into it.
    before = pool.take({"a": tree.flatten({"w": np.ones(5)})})
    assert b"".join(before.items["a"].arrays[0].parts()) == np.ones(5).tobytes()
    before.release()
    before.release()


def test_a_shard_of_another_length_than_its_manifest_says_is_damage(storage):
    manifest = save(storage, 0, state(0)).manifest
    (shard, *_) = manifest.items["model"].shards
    reader.read_header(storage, manifest.folder, shard)
    for nbytes in (shard.nbytes - 1, shard.nbytes + 1, 0):
        with pytest.raises(IntegrityError, match=f"instead of {nbytes}"):
            reader.read_header(storage, manifest.folder, replace(shard, nbytes=nbytes))


def test_a_checkpoint_that_is_not_there_is_not_found(storage):
    with pytest.raises(NotFoundError):
        reader.read_manifest(storage, RUN, draft(5).id)
