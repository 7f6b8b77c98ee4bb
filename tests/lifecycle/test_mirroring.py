"""Mirrors: current, whole at every moment, and free of the store's damage and losses."""

import errno
import shutil

import pytest

import holdfast
from holdfast import keep
from holdfast.engine import names
from holdfast.engine.journal import encode_line, parse
from holdfast.errors import ConfigError, HoldfastError, SaveError, StorageFullError
from holdfast.lifecycle.mirroredrun import MirroredRun
from holdfast.storage.faults import Crashed, Fault, FaultyPosix
from tests import disks
from tests.lifecycle.mirroring import (
    copy_of,
    damage_of,
    files_of,
    journal_of,
    mirror_of,
    pass_over,
    steps_in,
)
from tests.lifecycle.stores import detach, flip, train
from tests.storage.faulty import Recorder, failing, without_links


@pytest.fixture
def store(tmp_path):
    with holdfast.open(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def root(tmp_path):
    return tmp_path / "mirror"


def test_a_mirror_is_the_store_to_the_byte(store, root):
    train(store, "a", [3, 2, 1], frozen=7)
    train(store, "study/b", [1])
    (done,) = store.mirror(to=root)
    assert done.ok
    assert len(done.copied) == 4
    assert files_of(root) == files_of(store.path)
    with holdfast.open(root) as second:
        assert second.id == store.id
        assert second.verify().ok
        assert second.repair().ok
    (again,) = store.mirror()
    assert (again.copied, again.nbytes) == ((), 0)


def test_a_shard_that_the_mirror_has_already_is_linked_there(store, root):
    train(store, "a", [3], frozen=7)
    pass_over(store, mirror_of(root))
    train(store, "b", [2], frozen=7)
    recorder = Recorder()
    pass_over(store, mirror_of(root, recorder.posix), "b")
    created = [line for line in recorder.lines if line.startswith("create")]
    assert not any("frozen" in line for line in created)
    assert any("model" in line for line in created)


def test_the_manifest_comes_last_and_deletions_come_after_it(store, root):
    train(store, "a", [3, 2, 1], policy=keep.latest(1))
    mirror = mirror_of(root)
    pass_over(store, mirror)
    train(store, "a", [5], policy=keep.latest(1))
    recorder = Recorder()
    pass_over(store, mirror_of(root, recorder.posix))
    lines = recorder.lines
    manifest = next(
        i for i, line in enumerate(lines) if line.startswith("rename") and "manifest" in line
    )
    shards = [i for i, line in enumerate(lines) if line.endswith(" model.safetensors")]
    journal = next(i for i, line in enumerate(lines) if line.startswith("open_append"))
    assert max(i for i in shards if lines[i].startswith("rename")) < journal < manifest
    assert lines[manifest + 1].startswith("fsync_folder")
    assert min(i for i, line in enumerate(lines) if line == "unlink manifest.json") > manifest


# -- interrupted -----------------------------------------------------------------------------------


def moved_on(store):
    """Takes the store on: one checkpoint is new, one is thinned, one is deleted."""
    first = store.checkpoints("a", order_by="step")[0]
    store.delete(first.id).apply()
    train(store, "a", [0.5], frozen=7)
    store.prune("a", policy=keep.best(1, "loss") | keep.all().items("model")).apply()


def test_stopped_at_any_call_it_is_whole_and_goes_on_when_called_again(store, tmp_path):
    train(store, "a", [3, 2, 1], frozen=7)
    before = tmp_path / "before"
    pass_over(store, mirror_of(before))
    moved_on(store)
    whole = copy_of(before, tmp_path / "whole")
    posix = FaultyPosix()
    done = pass_over(store, mirror_of(whole, posix))
    assert (len(done.copied), len(done.thinned), len(done.deleted)) == (1, 2, 1)
    wanted = files_of(whole)
    assert wanted == files_of(store.path)
    ours = journal_of(store.path).read_bytes()
    assert posix.count > 40
    for number in range(1, posix.count + 1):
        root = copy_of(before, tmp_path / f"at-{number}")
        killed = FaultyPosix(Fault(number))
        with pytest.raises(Crashed):
            pass_over(store, mirror_of(root, killed))
        assert not any(damage_of(root).values()), number
        assert damage_of(root), number
        assert ours.startswith(journal_of(root).read_bytes()), number
        # A copy, for the locks of the one who was killed are still open in this process.
        again = copy_of(root, tmp_path / f"again-{number}")
        assert pass_over(store, mirror_of(again)).ok
        assert files_of(again) == wanted, number
        shutil.rmtree(root)
        shutil.rmtree(again)


def test_the_first_pass_stopped_at_any_call_goes_on_when_called_again(store, tmp_path):
    train(store, "a", [2, 1])
    posix = FaultyPosix()
    pass_over(store, mirror_of(tmp_path / "whole", posix))
    for number in range(1, posix.count + 1):
        root = tmp_path / f"at-{number}"
        killed = FaultyPosix(Fault(number))
        with pytest.raises(Crashed):
            pass_over(store, mirror_of(root, killed))
        assert not any(damage_of(root).values()), number
        again = tmp_path / f"again-{number}"
        if root.exists():
            copy_of(root, again)
        assert store.mirror(to=again)[0].ok
        assert files_of(again) == files_of(store.path), number


@pytest.mark.parametrize("call", ["create", "pwrite", "fsync", "rename", "link", "fsync_folder"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_failing_medium_is_told_of_and_the_next_pass_goes_on(store, root, call, code):
    train(store, "a", [2, 1])
    broken = mirror_of(root, failing(call, code))
    with pytest.raises((SaveError, StorageFullError)):
        pass_over(store, broken)
    assert pass_over(store, broken).ok
    assert files_of(root) == files_of(store.path)


def test_a_medium_without_hard_links_gets_files_of_its_own(store, root):
    train(store, "a", [2, 1], frozen=7)
    assert pass_over(store, mirror_of(root, without_links())).ok
    assert steps_in(root) == [0, 1]
    assert not any(damage_of(root).values())
    assert list((root / "shards").rglob("*.safetensors")) == []


# -- damage and losses -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.safetensors", "manifest.json"])
@pytest.mark.parametrize("at", [20, -3])
def test_damage_is_not_copied_and_is_told_of(store, root, name, at):
    saved, other = train(store, "a", [2, 1])
    flip(saved.path / name, at=at)
    done = pass_over(store, mirror_of(root))
    assert done.copied == (other.id,)
    assert saved.id in done.damaged[0]
    assert not (root / "runs" / "a" / saved.id).exists()
    assert steps_in(root) == [1]


def test_damage_of_what_the_mirror_has_does_not_reach_it(store, root):
    saved, _ = train(store, "a", [2, 1])
    pass_over(store, mirror_of(root))
    before = files_of(root)
    for path in sorted(saved.path.iterdir()):
        flip(path, at=10)
    assert not pass_over(store, mirror_of(root)).ok
    assert files_of(root) == before


def test_a_shard_that_is_gone_is_told_of(store, root):
    saved, other = train(store, "a", [2, 1])
    (saved.path / "model.safetensors").unlink()
    done = pass_over(store, mirror_of(root))
    assert "model.safetensors is missing" in done.damaged[0]
    assert done.copied == (other.id,)


def lose_manifest(saved):
    (saved.path / "manifest.json").unlink()


def lose_folder(saved):
    shutil.rmtree(saved.path)


@pytest.mark.parametrize("lose", [lose_manifest, lose_folder])
def test_what_the_store_lost_stays_on_the_mirror(store, root, lose):
    saved, _ = train(store, "a", [2, 1])
    pass_over(store, mirror_of(root))
    lose(saved)
    done = pass_over(store, mirror_of(root))
    assert (done.deleted, done.only) == ((), (saved.id,))
    assert steps_in(root) == [0, 1]


def test_a_deletion_that_is_only_planned_is_not_followed_yet(store, root):
    saved, _ = train(store, "a", [2, 1])
    pass_over(store, mirror_of(root))
    line = {"t": "plan", "at": 0.0, "deleted": [saved.id], "thinned": {}, "reasons": {}}
    store._place.append("a", [line], durable=True)
    lose_manifest(saved)
    assert pass_over(store, mirror_of(root)).deleted == ()
    assert steps_in(root) == [0, 1]


def test_a_deletion_is_followed(store, root):
    saved, other = train(store, "a", [2, 1])
    pass_over(store, mirror_of(root))
    store.delete(saved.id).apply()
    done = pass_over(store, mirror_of(root))
    assert done.deleted == (saved.id,)
    assert files_of(root) == files_of(store.path)
    assert steps_in(root) == [other.step]


def test_the_last_sound_checkpoint_stays_until_a_newer_one_is_copied(store, root):
    train(store, "a", [2])
    pass_over(store, mirror_of(root))
    (newer,) = train(store, "a", [1], policy=keep.latest(1))
    flip(newer.path / "model.safetensors")
    done = pass_over(store, mirror_of(root))
    assert done.damaged
    assert steps_in(root) == [0]
    assert not damage_of(root).popitem()[1]


def test_a_run_that_is_deleted_goes_from_the_mirror_too(store, root):
    train(store, "a", [2, 1])
    train(store, "b", [1])
    store.mirror(to=root)
    store.delete("a").apply()
    assert sorted(p.name for p in (root / "runs").iterdir()) == ["b"]
    assert store.mirror()[0].ok
    assert files_of(root) == files_of(store.path)


# -- journals --------------------------------------------------------------------------------------


def test_a_journal_gets_the_bytes_that_are_new_and_no_others(store, root):
    (saved,) = train(store, "a", [2])
    pass_over(store, mirror_of(root))
    before = journal_of(root).read_bytes()
    saved.tag("prod")
    recorder = Recorder()
    pass_over(store, mirror_of(root, recorder.posix))
    after = journal_of(root).read_bytes()
    assert after == journal_of(store.path).read_bytes()
    assert after.startswith(before)
    assert [line for line in recorder.lines if "rename" in line] == []


def test_a_second_pass_reads_the_news_of_the_journal_alone(store, root, monkeypatch):
    (saved,) = train(store, "a", [2])
    followed = MirroredRun(store._place, mirror_of(root), "a")
    pass_over(store, mirror_of(root))
    followed.update()
    starts = []
    real = type(store._place.storage).reading
    monkeypatch.setattr(
        type(store._place.storage),
        "reading",
        lambda self, path: (starts.append(path), real(self, path))[1],
    )
    saved.pin()
    starts.clear()
    assert followed.update().ok
    # The checkpoint that the line names is looked at, and nothing is read from the mirror but it.
    assert starts.count(f"runs/a/{names.JOURNAL}") == 2
    assert journal_of(root).read_bytes() == journal_of(store.path).read_bytes()


def test_damage_of_the_stores_journal_does_not_reach_the_mirror(store, root):
    (saved,) = train(store, "a", [2])
    pass_over(store, mirror_of(root))
    before = journal_of(root).read_bytes()
    flip(journal_of(store.path), at=40)
    saved.tag("late")
    done = pass_over(store, mirror_of(root))
    assert any("does not match its digest" in why for why in done.damaged)
    now = journal_of(root).read_bytes()
    # What was said since is there all the same.
    assert now.startswith(before)
    assert parse(now, path="j").damage == ()
    assert b'"late"' in now[len(before) :]
    assert not pass_over(store, mirror_of(root)).ok
    assert journal_of(root).read_bytes() == now


def test_new_lines_that_are_damaged_are_left_out(store, root):
    (saved,) = train(store, "a", [2])
    pass_over(store, mirror_of(root))
    begin = journal_of(store.path).stat().st_size
    saved.tag("one")
    saved.tag("two")
    flip(journal_of(store.path), at=begin + 5)
    assert not pass_over(store, mirror_of(root)).ok
    now = journal_of(root).read_bytes()
    assert parse(now, path="j").damage == ()
    assert b'"one"' not in now
    assert b'"two"' in now


@pytest.mark.parametrize("missing", [True, False])
def test_a_journal_that_was_cut_takes_nothing_from_the_mirrors(store, root, missing):
    train(store, "a", [2, 1])
    pass_over(store, mirror_of(root))
    before = journal_of(root).read_bytes()
    cut = b"" if missing else before[: before.index(b"\n") + 1]
    journal_of(store.path).write_bytes(cut)
    done = pass_over(store, mirror_of(root))
    assert "journal.jsonl" in done.damaged[0]
    assert journal_of(root).read_bytes() == before


def test_a_torn_tail_is_copied_when_it_is_noted(store, root):
    (saved,) = train(store, "a", [2])
    with journal_of(store.path).open("ab") as file:
        file.write(b'{"t":"half')
    assert pass_over(store, mirror_of(root)).ok
    assert journal_of(store.path).read_bytes().startswith(journal_of(root).read_bytes())
    saved.tag("after")
    assert pass_over(store, mirror_of(root)).ok
    assert journal_of(root).read_bytes() == journal_of(store.path).read_bytes()


def test_lines_that_the_mirror_alone_has_stay(store, root):
    (saved,) = train(store, "a", [2])
    pass_over(store, mirror_of(root))
    own = encode_line({"t": "tag", "at": 1.0, "id": saved.id, "tags": ["there"]})
    with journal_of(root).open("ab") as file:
        file.write(own)
    saved.tag("here")
    done = pass_over(store, mirror_of(root))
    assert "lacks 1 lines" in done.damaged[0]
    now = journal_of(root).read_bytes()
    assert own in now
    assert b'"here"' in now
    assert parse(now, path="j").damage == ()


def test_damage_of_the_mirrors_journal_is_mended_from_the_store(store, root):
    train(store, "a", [2])
    pass_over(store, mirror_of(root))
    flip(journal_of(root), at=40)
    assert pass_over(store, mirror_of(root)).ok
    assert journal_of(root).read_bytes() == journal_of(store.path).read_bytes()


# -- the mirror itself -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["manifest.json", "model.safetensors"])
def test_what_is_gone_from_the_mirror_comes_again(store, root, name):
    (saved,) = train(store, "a", [2])
    store.mirror(to=root)
    (root / "runs" / "a" / saved.id / name).unlink()
    assert store.mirror()[0].copied == (saved.id,)
    assert files_of(root) == files_of(store.path)


@pytest.mark.parametrize("spoil", [flip, lambda path: path.unlink()])
def test_a_mirror_without_its_name_is_known_by_its_runs(store, root, spoil):
    train(store, "a", [2])
    store.mirror(to=root)
    spoil(root / "holdfast.json")
    assert store.mirror()[0].ok
    assert files_of(root) == files_of(store.path)


def test_runs_of_nobody_are_not_taken_for_a_mirror(store, root):
    train(store, "a", [2])
    with holdfast.open(root) as other:
        train(other, "a", [2])
    (root / "holdfast.json").unlink()
    with pytest.raises(ConfigError, match="whose they are is unknown"):
        store.mirror(to=root)


def test_another_store_is_refused(store, root):
    train(store, "a", [2])
    holdfast.open(root).close()
    before = files_of(root)
    with pytest.raises(ConfigError, match="another store"):
        store.mirror(to=root)
    with pytest.raises(ConfigError, match="another store"):
        holdfast.open(store.path, mirrors=[root])
    assert files_of(root) == before


@pytest.mark.parametrize("where", ["", "inside", "..", "../link", "../link/inside"])
def test_the_store_itself_what_it_holds_and_what_holds_it_are_refused(store, where):
    store.path.with_name("link").symlink_to(store.path)
    with pytest.raises(ConfigError, match="the mirror"):
        store.mirror(to=store.path / where)
    with pytest.raises(ConfigError, match="the mirror"):
        holdfast.open(store.path, mirrors=[store.path / where])


def test_a_file_is_refused(store, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="is a file"):
        store.mirror(to=tmp_path / "file")


def test_without_any_mirror_there_is_nothing_to_bring_up_to_date(store):
    with pytest.raises(ConfigError, match="has no mirror"):
        store.mirror()


def test_a_mirror_that_vanished_is_begun_anew_only_when_it_is_named(store, root):
    """As an unmounted medium leaves it: the folder is there, and nothing in it."""
    train(store, "a", [2])
    store.mirror(to=root)
    shutil.rmtree(root)
    root.mkdir()
    (found,) = store.mirror()
    assert "is gone" in found.failures[0]
    assert list(root.iterdir()) == []
    assert store.mirror(to=root)[0].copied


def test_a_mirror_that_is_being_written_is_left_alone(store, root, monkeypatch):
    monkeypatch.setattr("holdfast.lifecycle.mirroredrun._LOCK_TIMEOUT_S", 0.0)
    train(store, "a", [2])
    pass_over(store, mirror_of(root))
    with holdfast.open(root) as second:
        run = second.run("a")
        (found,) = store.mirror()
        assert "open for writing" in found.failures[0]
        run.close()


def test_damage_on_a_medium_without_links_between_is_not_spread(store, root):
    saved, other = train(store, "a", [2, 1], frozen=7)
    detach(saved.path / "frozen.safetensors")
    flip(saved.path / "frozen.safetensors")
    done = pass_over(store, mirror_of(root))
    # The newer one was copied first: its sound shard serves the other, whose own is damaged.
    assert set(done.copied) == {saved.id, other.id}
    assert not any(damage_of(root).values())


@pytest.fixture
def small_disk(tmp_path):
    with disks.small_disk(tmp_path, "tmpfs", nbytes=1 << 20) as folder:
        yield folder


def test_a_full_mirror_is_told_of_and_keeps_what_it_has(store, small_disk):
    train(store, "a", [2])
    store.mirror(to=small_disk / "m")
    disks.fill(small_disk)
    train(store, "a", [1])
    (found,) = store.mirror()
    assert "No space left" in found.failures[0]
    assert steps_in(small_disk / "m") == [0]
    (small_disk / "ballast").unlink()
    assert store.mirror()[0].ok
    assert files_of(small_disk / "m") == files_of(store.path)


def test_on_a_full_mirror_what_the_store_let_go_makes_room(store, small_disk):
    train(store, "a", [5, 4, 3, 2])
    store.mirror(to=small_disk / "m")
    disks.fill(small_disk)
    store.prune("a", policy=keep.latest(1)).apply()
    train(store, "a", [1], policy=keep.latest(1))
    assert store.mirror()[0].ok
    assert files_of(small_disk / "m") == files_of(store.path)


def test_a_run_that_there_is_not_is_an_error(store, root):
    with pytest.raises(HoldfastError, match="no run"):
        store.mirror("nope", to=root)
