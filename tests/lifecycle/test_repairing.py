"""Repair: what was left behind goes, what is damaged is mended, and no checkpoint is deleted."""

import shutil

import pytest
import torch

import holdfast
from holdfast import keep, when
from holdfast.engine import names
from holdfast.errors import ConfigError
from holdfast.lifecycle.prune import _note
from tests.lifecycle.stores import detach, flip, ids, listing, train, values


@pytest.fixture
def store(tmp_path):
    with holdfast.open(tmp_path / "store") as opened:
        yield opened


def kinds(findings) -> list[str]:
    return [finding.kind for finding in findings.findings]


def second_name(store, saved, item="model"):
    (shard,) = saved.info.item_shards[item]
    return store.path / names.shard_path(shard)


def test_a_store_in_order_has_no_findings(store):
    train(store, "a", [2, float("nan"), 1])
    store.prune("a", policy=keep.best(1, "loss").items("model")).apply()
    found = store.repair()
    # Folders that the clean-up emptied are no matter.
    assert set(kinds(found)) <= {"empty"}
    assert found.ok
    assert found.left == ()


def make_temporary(store, saved):
    (store.path / "runs" / "a" / ".tmp-journal-1-2-3").write_bytes(b"")


def make_temporary_shard(store, saved):
    (second_name(store, saved).parent / ".tmp-x-1-2-3").write_bytes(b"")


def make_unfinished(store, saved):
    folder = store.path / "runs" / "a" / "a_20200101_000000"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"half")


def make_stray(store, saved):
    (saved.path / ".tmp-model.safetensors-1-2-3").write_bytes(b"half")


def make_ownerless(store, saved):
    path = store.path / names.shard_path("ab" + "0" * 62)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"nobody's")


def make_interrupted(store, saved):
    doomed = store.checkpoints("a", order_by="created_at")[0]
    _note(store._place, "a", [doomed.id], {}, {})
    (doomed.path / "manifest.json").unlink()


def make_drift(store, saved):
    store._place.catalog.drop_checkpoint(saved.id)


def make_forgotten(store, saved):
    store._place.catalog.forget_run("a")


def make_ghost(store, saved):
    train(store, "ghost", [1])
    shutil.rmtree(store.path / "runs" / "ghost")
    for shard in (store.path / "shards").rglob("*.safetensors"):
        if shard.stat().st_nlink == 1:
            shard.unlink()


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (make_temporary, "leftover"),
        (make_temporary_shard, "leftover"),
        (make_unfinished, "unfinished"),
        (make_stray, "stray"),
        (make_ownerless, "ownerless"),
        (make_interrupted, "interrupted"),
        (make_drift, "drift"),
        (make_forgotten, "drift"),
        (make_ghost, "drift"),
    ],
)
def test_what_was_left_behind_is_found_first_and_set_right_when_asked(store, spoil, kind):
    _, saved = train(store, "a", [2, 1])
    spoil(store, saved)
    before = listing(store.path)
    found = store.repair()
    assert kind in kinds(found)
    assert not found.ok
    assert len(found.left) == len(found.findings)
    assert listing(store.path) == before
    done = store.repair(apply=True)
    assert kind in kinds(done)
    assert done.ok, done.left
    assert store.repair().findings == ()
    assert store.get(saved.id) == saved
    saved.verify()


def test_a_shard_without_its_own_name_is_linked_again(store):
    saved, other = train(store, "a", [2, 1])
    (saved.path / "model.safetensors").unlink()
    assert kinds(store.repair()) == ["damaged"]
    store.verify()
    done = store.repair(apply=True)
    assert done.ok, done.left
    saved.verify()
    assert not store.get(saved.id).info.damaged
    assert saved.load("model")["weight"].equal(values(2)["weight"])
    assert (saved.path / "model.safetensors").stat().st_nlink == 2
    other.verify()


def test_a_damaged_shard_is_healed_from_another_checkpoint(store):
    saved = train(store, "a", [1], frozen=7)[0]
    train(store, "b", [2], frozen=7)
    second_name(store, saved, "frozen").unlink()
    detach(saved.path / "frozen.safetensors")
    flip(saved.path / "frozen.safetensors")
    store.verify()
    done = store.repair(apply=True)
    assert [(f.kind, f.done) for f in done.findings if f.kind != "empty"] == [("damaged", True)]
    assert "runs/b/" in done.findings[0].action
    assert store.verify().ok


def test_a_copy_that_is_damaged_itself_heals_nothing(store):
    saved = train(store, "a", [1])[0]
    detach(saved.path / "model.safetensors")
    (saved.path / "model.safetensors").unlink()
    flip(second_name(store, saved))
    found = store.repair(apply=True)
    assert found.left
    assert not (saved.path / "model.safetensors").exists()
    assert store.get(saved.id).info.damaged


def test_a_damaged_shard_is_not_offered_to_later_saves(store):
    (saved,) = train(store, "a", [1])
    flip(saved.path / "model.safetensors")
    store.verify()
    store.repair(apply=True)
    assert not second_name(store, saved).exists()
    again = train(store, "b", [1])[0]
    again.verify()
    assert again.load("model")["weight"].equal(values(1)["weight"])


def test_an_index_is_written_again_to_the_byte(store):
    state = {"a": torch.nn.Parameter(torch.ones(20_000), requires_grad=False), "b": torch.zeros(3)}
    run = store.run("a", save=when.never())
    run.attach(model=state)
    saved = run.save(0).wait()
    run.close()
    index = saved.path / "model.safetensors.index.json"
    before = index.read_bytes()
    flip(index, at=10)
    store.verify()
    assert store.repair(apply=True).ok
    assert index.read_bytes() == before
    saved.verify()


@pytest.mark.parametrize("name", ["manifest.json", "model.safetensors"])
def test_what_cannot_be_mended_is_named_and_left_as_it_is(store, name):
    saved, other = train(store, "a", [2, 1])
    flip(saved.path / name)
    store.verify()
    before = {p.name: p.read_bytes() for p in saved.path.iterdir()}
    found = store.repair(apply=True)
    assert [finding.path for finding in found.left] == [
        f"runs/a/{saved.id}/{name}",
    ]
    assert {p.name: p.read_bytes() for p in saved.path.iterdir()} == before
    other.verify()


def test_a_checkpoint_that_lost_its_manifest_is_not_taken_for_an_unfinished_save(store):
    saved, _ = train(store, "a", [2, 1])
    (saved.path / "manifest.json").unlink()
    for _ in range(2):
        found = store.repair(apply=True)
        assert "unfinished" not in kinds(found)
        assert any(finding.path.endswith("manifest.json") for finding in found.left)
    assert (saved.path / "model.safetensors").exists()


def test_a_file_of_the_users_own_is_named_and_kept(store):
    (saved,) = train(store, "a", [1])
    (saved.path / "notes.txt").write_text("mine")
    found = store.repair(apply=True)
    assert [(f.kind, f.done) for f in found.findings] == [("stray", False)]
    assert (saved.path / "notes.txt").read_text() == "mine"


def test_a_run_that_is_written_is_left_alone(store):
    saved = train(store, "a", [1], finish=False)
    make_unfinished(store, saved[0])
    make_temporary_shard(store, saved[0])
    found = store.repair(apply=True)
    assert found.busy == ("a",)
    assert found.findings == ()
    assert (store.path / "runs" / "a" / "a_20200101_000000").exists()


def test_a_healed_checkpoint_is_noted_as_sound(store):
    (saved,) = train(store, "a", [1])
    line = {"t": "damaged", "at": 0.0, "id": saved.id, "reason": "said so"}
    store._place.append("a", [line], durable=True)
    assert kinds(store.repair())[0] == "drift"
    assert store.repair(apply=True).ok
    assert store.repair().findings == ()


def test_a_place_that_is_only_read_can_be_looked_at(store):
    (saved,) = train(store, "a", [1])
    make_stray(store, saved)
    with holdfast.open(store.path, mode="r") as reader:
        assert kinds(reader.repair()) == ["stray"]
        with pytest.raises(ConfigError, match="reading only"):
            reader.repair(apply=True)


def test_findings_are_plain_json(store):
    (saved,) = train(store, "a", [1])
    make_stray(store, saved)
    told = store.repair().as_dict()
    assert told["ok"] is False
    assert told["findings"][0]["kind"] == "stray"
    assert ids(store.checkpoints("a")) == [saved.id]
