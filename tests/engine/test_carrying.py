"""A checkpoint carried to another store: in the order of a save, and nothing taken on trust."""

from __future__ import annotations

import errno

import pytest

from holdfast.engine import names, reader
from holdfast.engine.carrying import carry, read_sealed
from holdfast.errors import IntegrityError, SaveError
from holdfast.storage import LocalStorage
from tests.engine.states import RUN, expected, load, problems, save_several, state
from tests.storage.faulty import Recorder, failing


@pytest.fixture
def stores(tmp_path):
    """A store with checkpoints that share a shard, and an empty one."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b" / "runs").mkdir(parents=True)
    source, target = LocalStorage(tmp_path / "a"), LocalStorage(tmp_path / "b")
    made = save_several(source, 3)
    target.make_folder(names.folder_of_run(RUN))
    return source, target, made


def carried(source, target, made, **more):
    manifest, data = read_sealed(source, RUN, made.id)
    return carry(source, target, manifest, data, **more)


def test_what_is_carried_is_the_same_to_the_bit_and_copied_once(stores):
    source, target, made = stores
    copied = [carried(source, target, one) for one in made]
    for number, one in enumerate(made):
        assert load(target, one.id) == expected(state(number))
        assert problems(target, one) == []
    # By then it is known what does not change: that is linked.
    assert copied[2] < copied[0] / 4
    # Carried again, no shard is: what has its name was durable and checked by then.
    assert carried(source, target, made[2]) < copied[2] / 4


def test_its_folder_its_shards_and_their_names_are_durable_before_its_manifest(stores):
    source, target, made = stores
    recorder = Recorder()
    moment = []

    def before_manifest():
        moment.append(len(recorder.lines))

    carried(
        source,
        LocalStorage(target.root, posix=recorder.posix),
        made[0],
        before_manifest=before_manifest,
    )
    lines, (at,) = recorder.lines, moment
    folder = lines.index(f"mkdir {made[0].id}")
    # The folder's own name, in its run's folder.
    assert lines[folder + 1] == "fsync_folder study+cnn"
    shards = [n for n, line in enumerate(lines) if line.startswith("rename") and "safetens" in line]
    assert shards
    assert at > max(shards)
    assert lines[at - 1] == f"fsync_folder {made[0].id}"
    assert [line.split()[0] for line in lines[at:] if line.split()[0] in ("fsync", "rename")] == [
        "fsync",
        "rename",
    ]
    assert lines[-1] == f"fsync_folder {made[0].id}"


@pytest.mark.parametrize("call", ["fsync", "rename", "fsync_folder", "mkdir", "create"])
def test_a_failure_leaves_no_checkpoint_and_the_next_attempt_goes_on(stores, call):
    source, target, made = stores
    broken = LocalStorage(target.root, posix=failing(call, errno.EIO))
    with pytest.raises(SaveError):
        carried(source, broken, made[0])
    assert (
        target.names(f"{names.folder_of_run(RUN)}/{made[0].id}") == []
        or not (target.root / names.folder_of_checkpoint(RUN, made[0].id) / names.MANIFEST).exists()
    )
    carried(source, target, made[0])
    assert load(target, made[0].id) == expected(state(0))


def test_what_rots_between_two_looks_is_not_carried(stores, monkeypatch):
    source, target, made = stores
    folder = source.root / names.folder_of_checkpoint(RUN, made[0].id)
    file = max(folder.glob("*.safetensors"), key=lambda path: path.stat().st_size)

    def looked_at(*arguments):
        header = reader.read_header(*arguments)
        file.chmod(0o644)
        with file.open("r+b") as opened:
            # A space between two members: the header says the same, and is another one.
            opened.seek(header.data_start - 1)
            opened.write(b"\n")
        return header

    monkeypatch.setattr("holdfast.engine.carrying.read_header", looked_at)
    with pytest.raises(IntegrityError, match=file.name):
        carried(source, target, made[0])
    assert not (target.root / folder.relative_to(source.root) / file.name).exists()


@pytest.mark.parametrize("place", ["header", "tensor", "length"])
def test_damage_is_not_carried(stores, place):
    source, target, made = stores
    folder = source.root / names.folder_of_checkpoint(RUN, made[0].id)
    file = max(folder.glob("*.safetensors"), key=lambda path: path.stat().st_size)
    file.chmod(0o644)
    data = bytearray(file.read_bytes())
    if place == "length":
        data += b"x"
    else:
        data[20 if place == "header" else -1] ^= 1
    file.write_bytes(data)
    with pytest.raises(IntegrityError, match=file.name):
        carried(source, target, made[0])
    there = target.root / names.folder_of_checkpoint(RUN, made[0].id)
    assert not (there / names.MANIFEST).exists()
    assert not (there / file.name).exists()


@pytest.mark.parametrize("damage", ["cut", "other", "flipped header"])
def test_what_stands_in_the_way_at_the_target_is_replaced(stores, damage):
    source, target, made = stores
    carried(source, target, made[1])
    folder = target.root / names.folder_of_checkpoint(RUN, made[1].id)
    for file in folder.glob("*.safetensors"):
        content = file.read_bytes()
        file.unlink()
        spoilt = {"cut": content[:-1], "other": b"x" * len(content)}.get(damage)
        file.write_bytes(spoilt or content[:20] + b"~" + content[21:])
    carried(source, target, made[1])
    assert load(target, made[1].id) == expected(state(1))
    assert problems(target, reader.read_manifest(target, RUN, made[1].id)) == []


def test_a_damaged_index_is_not_carried(stores):
    source, target, made = stores
    manifest = made[2]
    (index,) = [item.index.file for item in manifest.items.values() if item.index]
    file = source.root / manifest.folder / index
    content = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(content.replace(b'"head"', b'"haed"'))
    with pytest.raises(IntegrityError, match=index):
        carried(source, target, manifest)
    assert not (target.root / manifest.folder / index).exists()
    file.write_bytes(content)
    carried(source, target, manifest)
    assert (target.root / manifest.folder / index).read_bytes() == content


def test_a_shard_that_was_carried_alone_is_offered_to_those_that_follow(stores):
    source, target, made = stores
    carried(source, target, made[2])
    shards = {shard for item in made[2].items.values() for shard in item.shards}
    for shard in shards:
        # As after a crash before it had its second name.
        (target.root / names.shard_path(shard.shard)).unlink()
    carried(source, target, made[2])
    for shard in shards:
        path = target.root / names.shard_path(shard.shard)
        assert path.samefile(target.root / made[2].folder / shard.file)
