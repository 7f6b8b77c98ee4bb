"""What a store's journal says of its files is not said of its mirror's, and damage of it heals."""

import stat

import pytest

import holdfast
from holdfast.engine.carriedlines import carried
from holdfast.engine.journal import parse
from tests.lifecycle.mirroring import journal_of
from tests.lifecycle.stores import flip, train


@pytest.fixture
def root(tmp_path):
    return tmp_path / "mirror"


@pytest.fixture
def store(tmp_path, root):
    with holdfast.open(tmp_path / "store", mirrors=[root]) as opened:
        yield opened


def test_a_checkpoint_noted_as_damaged_is_sound_where_it_is_sound(store, root):
    saved = train(store, "a", [3, 2])
    store.mirror()
    flip(saved[-1].path / "model.safetensors")
    assert list(store.verify().damaged) == [saved[-1].id]
    assert store.latest("a").id != saved[-1].id
    store.mirror()
    with holdfast.open(root) as second:
        assert second.latest("a").id == saved[-1].id
        assert not second.latest("a").info.damaged
        assert second.best("loss", run="a").id == saved[-1].id
        # Nor does the store's word say that the mirror's files were read.
        assert len(second.verify(since="7d").checked) == 2


def test_a_mirror_that_was_verified_is_still_current(store, root):
    train(store, "a", [3, 2])
    store.verify()
    store.mirror()
    with holdfast.open(root) as second:
        assert len(second.verify().checked) == 2
    own = journal_of(root).read_bytes()
    train(store, "a", [1])
    assert store.mirror()[0].ok
    now = journal_of(root).read_bytes()
    assert now.startswith(own)
    assert b'"verified"' in now
    assert store.repair().ok
    with holdfast.open(root) as second:
        assert second.verify(since="7d").checked == (store.latest("a").id,)


def test_a_journal_that_was_cut_is_whole_again_and_nothing_says_that_it_is_not(store, root):
    saved = train(store, "a", [3, 2])
    saved[0].pin()
    store.mirror()
    path = journal_of(store.path)
    whole = path.read_bytes()
    path.write_bytes(whole.partition(b"\n")[0] + b"\n")
    # Opening says again what the catalog knows, and that the journal was cut.
    with holdfast.open(store.path, mirrors=[root]) as again:
        assert b'"cut"' in path.read_bytes()
        assert again.repair(apply=True).ok
        assert again.verify().ok
    assert path.read_bytes().startswith(whole)
    assert b'"cut"' not in path.read_bytes()


def test_that_more_was_lost_than_the_mirror_has_is_still_said(store, root):
    saved = train(store, "a", [3, 2])
    store.mirror()
    saved[0].pin()
    path = journal_of(store.path)
    path.write_bytes(path.read_bytes().partition(b"\n")[0] + b"\n")
    with holdfast.open(store.path, mirrors=[root]) as again:
        left = again.repair(apply=True).left
        assert any("it was cut" in finding.what for finding in left)
        # What only the catalog knew is in the journal again.
        assert again.get(saved[0].id).pinned


def test_damage_that_no_mirror_can_heal_is_not_hidden_by_what_one_heals(store, root):
    saved = train(store, "a", [3, 2])
    store.mirror()
    path = journal_of(store.path)
    begin = path.stat().st_size
    saved[0].pin()
    saved[1].tag("since")
    flip(path, at=50)
    flip(path, at=begin + 20)
    damaged = parse(path.read_bytes(), path="j").damage
    assert len(damaged) == 2
    store.repair(apply=True)
    assert parse(path.read_bytes(), path="j").damage == damaged[1:]
    assert store.get(saved[0].id).pinned
    assert "since" in store.get(saved[1].id).tags


def test_what_was_noted_of_the_stores_own_files_outlives_the_healing_of_its_journal(store, root):
    saved = train(store, "a", [3, 2])
    store.mirror()
    flip(root / saved[0].path.relative_to(store.path) / "model.safetensors")
    flip(saved[0].path / "model.safetensors")
    store.verify()
    store.mirror()
    path = journal_of(store.path)
    noted = path.read_bytes()
    flip(path, at=50)
    store.repair(apply=True)
    assert path.read_bytes().startswith(noted)
    assert store.get(saved[0].id).info.damaged
    assert journal_of(root).read_bytes() == carried(noted, path="j")


def test_a_journal_that_was_replaced_can_be_appended_to_by_those_who_could_before(store, root):
    train(store, "a", [3, 2])
    store.mirror()
    path = journal_of(store.path)
    path.chmod(0o664)
    flip(path, at=50)
    path.chmod(0o664)
    assert store.repair(apply=True).ok
    assert stat.S_IMODE(path.stat().st_mode) == 0o664


def test_a_pin_whose_line_is_damaged_outlives_the_doctor_without_a_mirror(tmp_path):
    with holdfast.open(tmp_path / "alone") as store:
        saved = train(store, "a", [3, 2])
        path = journal_of(store.path)
        begin = path.stat().st_size
        saved[0].pin()
        flip(path, at=begin + 20)
        store.repair(apply=True)
        assert store.get(saved[0].id).pinned
    with holdfast.open(tmp_path / "alone") as store:
        store.reindex()
        assert store.get(saved[0].id).pinned


def test_a_last_line_feed_that_became_another_byte_is_healed_whatever_was_appended_since(
    store, root
):
    train(store, "a", [3, 2])
    store.mirror()
    path = journal_of(store.path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"\x0b")
    # Who appends takes the line for torn, ends it once more, and says so.
    store.latest("a").tag("prod")
    assert store.verify().journals
    with holdfast.open(store.path, mirrors=[root]) as again:
        assert again.repair(apply=True).ok
        assert again.verify().ok
        assert again.latest("a").tags == ("prod",)
        again.mirror()
    assert path.read_bytes().startswith(whole)
    with holdfast.open(root) as second:
        assert second.verify().ok
        assert second.latest("a").tags == ("prod",)
