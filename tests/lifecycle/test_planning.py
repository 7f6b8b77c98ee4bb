"""What a clean-up of a store plans and does, over runs that share shards and have owners."""

import os

import pytest

import holdfast
from holdfast import keep, when
from holdfast.engine import names
from holdfast.errors import ConfigError, LockedError, NotFoundError
from holdfast.lifecycle.history import RunHistory
from holdfast.lifecycle.prune import _note
from tests.lifecycle.stores import ids, listing, train, values, write_policy


@pytest.fixture
def store(tmp_path):
    with holdfast.open(tmp_path / "store") as opened:
        yield opened


def shards_on_disk(store) -> dict[str, int]:
    found = listing(store.path)
    return {path: size for path, (size, _) in found.items() if path.startswith("shards/")}


# -- what is planned ---------------------------------------------------------------------------


def test_a_plan_changes_nothing_until_it_is_applied(store):
    train(store, "a", [3, 2, 1])
    before = listing(store.path)
    plan = store.prune("a", policy=keep.latest(1))
    assert len(plan.deleted) == 2
    assert listing(store.path) == before


def test_without_a_policy_each_run_goes_by_its_own(store):
    first = train(store, "a", [1, 2, 3])
    second = train(store, "b", [1, 2, 3])
    write_policy(store, "a", keep.best(1, "loss"))
    write_policy(store, "b", keep.all())
    plan = store.prune()
    # The newest of a run that is not finished stays whatever its policy says.
    assert ids(plan.deleted) == [first[1].id]
    assert set(ids(plan.kept)) == {first[0].id, first[2].id, *ids(second)}
    assert set(plan.reasons) == set(ids([*first, *second]))


def test_of_a_finished_run_the_policy_alone_decides(store):
    saved = train(store, "a", [1, 2, 3])
    plan = store.prune(policy=keep.best(1, "loss"))
    assert ids(plan.kept) == [saved[0].id]


def test_a_policy_as_text_does_what_the_policy_does(store):
    train(store, "a", [3, 1, 2])
    asked = store.prune("a", policy="best(1, 'loss')")
    assert ids(asked.kept) == ids(store.prune("a", policy=keep.best(1, "loss")).kept)


def test_a_policy_takes_each_runs_own_metric(store):
    saved = train(store, "a", [1, 2, 3])
    assert ids(store.prune(policy=keep.best(1)).kept) == [saved[0].id]
    store.run("nameless", save=when.never()).close()
    with pytest.raises(ConfigError, match="the run nameless cannot be pruned"):
        store.prune(policy=keep.best(1))


def test_late_metrics_and_pins_count_before_the_catalog_heard_of_them(store):
    first, second, third = train(store, "a", [1, 2, 3])
    now = {"at": 0.0}
    store._place.journal("a").append(
        [
            {"t": "report", "id": third.id, "metrics": {"loss": 0.5}, **now},
            {"t": "pin", "id": second.id, **now},
        ],
        durable=True,
    )
    plan = store.prune(policy=keep.best(1))
    assert set(ids(plan.kept)) == {second.id, third.id}
    assert ids(plan.deleted) == [first.id]


def test_a_damaged_checkpoint_is_set_aside_and_takes_no_place(store):
    first, second, _ = train(store, "a", [1, 2, 3])
    manifest = first.path / "manifest.json"
    manifest.chmod(0o644)
    manifest.write_bytes(manifest.read_bytes()[:-90])
    store.reindex()
    plan = store.prune(policy=keep.best(1))
    assert second.id in ids(plan.kept)
    assert first.id not in ids(plan.deleted)


def test_an_unreadable_policy_names_its_run(store):
    train(store, "a", [1])
    place = store._place
    line = {"t": "run", "at": 0.0, "name": "a", "created_at": 0.0, "policies": {"keep": "nope()"}}
    place.journal("a").append([line], durable=True)
    with pytest.raises(ConfigError, match=r"the run a cannot be pruned.*nope"):
        store.prune()


# -- what it frees -----------------------------------------------------------------------------


def test_a_shard_shared_with_a_kept_checkpoint_of_another_run_is_not_freed(store):
    train(store, "a", [1, 2], frozen=7)
    train(store, "b", [3], frozen=7)
    before = shards_on_disk(store)
    plan = store.prune("a", policy=keep.none())
    frozen = plan.deleted[0].item_shards["frozen"]
    assert set(frozen) <= set(store.checkpoints("b")[0].info.shards)
    done = plan.apply()
    freed = sum(before.values()) - sum(shards_on_disk(store).values())
    assert freed > 0
    assert plan.freed_nbytes == done.freed_nbytes == freed
    assert store.verify().ok


def test_what_no_run_keeps_is_freed_once(store):
    train(store, "a", [1], frozen=7)
    train(store, "b", [2], frozen=7)
    before = sum(shards_on_disk(store).values())
    plan = store.prune(policy=keep.none())
    assert plan.freed_nbytes == before
    assert plan.apply().freed_nbytes == before
    assert shards_on_disk(store) == {}


def test_thinning_frees_the_items_that_go(store):
    train(store, "a", [1, 2], frozen=7)
    before = sum(shards_on_disk(store).values())
    plan = store.prune("a", policy=keep.best(2, "loss").items("model"))
    done = plan.apply()
    assert set(ids(plan.thinned)) == set(ids(done.thinned)) == set(plan.remaining)
    assert plan.freed_nbytes == before - sum(shards_on_disk(store).values()) > 0
    assert all(checkpoint.items == ("model",) for checkpoint in store.checkpoints("a"))
    assert store.verify().ok


# -- carrying it out ---------------------------------------------------------------------------


def test_what_is_kept_loads_as_before(store):
    train(store, "a", [3, 1, 2])
    store.prune("a", policy=keep.best(1, "loss")).apply()
    (best,) = store.checkpoints("a")
    loaded = best.load("model")
    for name, tensor in values(1).items():
        assert loaded[name].equal(tensor)


def test_a_checkpoint_pinned_after_the_plan_stays_and_is_told(store):
    first, second, _ = train(store, "a", [3, 2, 1])
    plan = store.prune("a", policy=keep.latest(1))
    second.pin()
    done = plan.apply()
    assert ids(done.deleted) == [first.id]
    assert second.id in ids(done.kept)
    assert "since the clean-up was planned" in done.reasons[second.id][0]
    second.verify()


def test_an_interrupted_clean_up_is_finished(store):
    first, second, _ = train(store, "a", [3, 2, 1])
    _note(store._place, "a", [first.id], {}, {first.id: ("old",)})
    store.prune("a", policy=keep.all()).apply()
    assert not first.path.exists()
    assert second.path.exists()
    assert not RunHistory(store._place.journal("a")).refresh().open_plan.deleted


def test_what_was_pinned_after_an_interruption_is_spared(store):
    first, second, _ = train(store, "a", [3, 2, 1])
    _note(store._place, "a", ids([first, second]), {}, {})
    first.pin()
    store.prune("a", policy=keep.all()).apply()
    first.verify()
    assert not second.path.exists()
    history = RunHistory(store._place.journal("a")).refresh()
    assert not history.open_plan.deleted
    assert not history.saves[first.id].deleted


def test_leftovers_of_an_unfinished_save_go_when_nobody_writes_the_run(store):
    train(store, "a", [1])
    folder = store.path / "runs" / "a" / "a_20200101_000000"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"half")
    store.prune().apply()
    assert not folder.exists()


def test_an_unfinished_save_of_a_running_run_is_left_alone(store):
    train(store, "a", [3, 2, 1], finish=False)
    folder = store.path / "runs" / "a" / "a_20200101_000000"
    folder.mkdir()
    done = store.prune("a", policy=keep.latest(1)).apply()
    assert len(done.deleted) == 2
    assert folder.exists()


def test_shards_without_owners_are_swept(store):
    (saved,) = train(store, "a", [1])
    digest = "ab" + "0" * 62
    orphan = store.path / names.shard_path(digest)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"nobody's")
    store.prune().apply()
    assert not orphan.exists()
    saved.verify()


def test_a_shard_that_could_heal_a_checkpoint_is_not_swept(store):
    (saved,) = train(store, "a", [1])
    (saved.path / "model.safetensors").unlink()
    store.prune().apply()
    (shard,) = saved.info.item_shards["model"]
    assert (store.path / names.shard_path(shard)).exists()


def test_a_plan_of_a_place_that_is_only_read_cannot_be_applied(tmp_path, store):
    train(store, "a", [2, 1])
    with holdfast.open(tmp_path / "store", mode="r") as reader:
        plan = reader.prune("a", policy=keep.latest(1))
        assert len(plan.deleted) == 1
        with pytest.raises(ConfigError, match="reading only"):
            plan.apply()
        with pytest.raises(ConfigError, match="reading only"):
            reader.delete("a").apply()
    assert len(store.checkpoints("a")) == 2


# -- deleting ----------------------------------------------------------------------------------


def test_a_whole_run_goes_with_all_that_is_known_of_it(store):
    train(store, "study/trial-1", [2, 1])
    kept = train(store, "other", [1])[0]
    plan = store.delete("study/trial-1")
    assert len(plan.deleted) == 2
    assert all("study/trial-1" in plan.reasons[info.id][0] for info in plan.deleted)
    done = plan.apply()
    assert ids(done.deleted) == ids(plan.deleted)
    assert not (store.path / "runs" / "study+trial-1").exists()
    assert [run.name for run in store.runs()] == ["other"]
    kept.verify()
    assert store.repair().ok


def test_a_pattern_reaches_nested_runs_and_no_others(store):
    for name in ("study/a", "study/deep/b", "study-2", "other"):
        train(store, name, [1])
    store.delete("study/*").apply()
    assert [run.name for run in store.runs()] == ["other", "study-2"]


def test_a_pinned_checkpoint_outlives_its_run(store):
    first, second = train(store, "a", [2, 1])
    first.pin()
    plan = store.delete("a")
    assert ids(plan.kept) == [first.id]
    assert "pinned" in plan.reasons[first.id][0]
    plan.apply()
    assert [checkpoint.id for checkpoint in store.checkpoints("a")] == [first.id]
    store.reindex()
    assert store.get(first.id).pinned
    first.verify()
    assert not second.path.exists()


def test_one_checkpoint_goes_by_reference(store):
    first, second = train(store, "a", [1, 2])
    plan = store.delete("a@best:loss")
    assert ids(plan.deleted) == [first.id]
    plan.apply()
    assert store.get("a@best:loss") == second
    second.pin()
    assert store.delete(second.id).deleted == ()


def test_a_damaged_checkpoint_can_be_deleted(store):
    first, second = train(store, "a", [1, 2])
    manifest = first.path / "manifest.json"
    manifest.chmod(0o644)
    manifest.write_bytes(b"nonsense")
    store.verify()
    store.delete(first.id).apply()
    assert store.checkpoints("a") == [second]


def test_what_matches_nothing_names_the_nearest(store):
    train(store, "digits-cnn", [1])
    with pytest.raises(NotFoundError) as missing:
        store.delete("digits-cmn")
    assert missing.value.nearest == ("digits-cnn",)
    with pytest.raises(NotFoundError):
        store.delete("digits-cnn@step:77")


def test_a_running_run_is_refused_before_anything_happens(store):
    saved = train(store, "study/a", [1, 2])
    plan = store.delete("study/*")
    train(store, "study/b", [1], finish=False)
    with pytest.raises(LockedError) as refused:
        store.delete("study/*")
    assert f"pid {os.getpid()}" in refused.value.holder
    assert store.checkpoints("study/a", order_by="step") == saved
    # A plan from before the run was opened again is checked when it is applied.
    again = store.run("study/a", save=when.never())
    with pytest.raises(LockedError):
        plan.apply()
    assert all(checkpoint.path.exists() for checkpoint in saved)
    again.close()
