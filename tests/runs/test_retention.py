"""What is deleted, and when; ids and times of checkpoints."""

import time

import pytest

import holdfast
from holdfast import keep, when
from tests.runs.samples import Clock, attached, flip, manual, saved, slow, steps_of, weights


def test_newest_checkpoint_survives_a_stricter_policy(store):
    with manual(store, keep=keep.best(1, "loss")) as run:
        for step, loss in enumerate([1, 2, 3]):
            saved(run, step, {"loss": loss})
            assert run.latest().step == step
        assert steps_of(run) == [0, 2]


def test_newest_checkpoint_stays_until_a_newer_one_is_durable(store):
    with manual(store, keep=keep.best(1, "loss")) as run:
        saved(run, 0, {"loss": 1})
        saved(run, 1, {"loss": 2})
        with slow(store) as medium:
            pending = run.save(2, {"loss": 3})
            assert medium.waiting.wait(60)
            store.prune("run").apply()
            assert steps_of(store, "run") == [0, 1]
        pending.wait()
        run.wait()
        assert steps_of(run) == [0, 2]


def test_a_run_that_is_left_keeps_its_newest_and_goes_on_with_it(store):
    with manual(store, keep=keep.best(1, "loss")) as run:
        saved(run, 0, {"loss": 1})
        saved(run, 1, {"loss": 2})
    assert steps_of(store, "run") == [0, 1]
    with manual(store, keep=keep.best(1, "loss")) as run:
        assert run.resume() == 2


def test_a_finished_run_is_ruled_by_its_policy_alone(store):
    with manual(store, metric="loss", keep=keep.best(1)) as run:
        saved(run, 0, {"loss": 1})
        run.finish({"loss": 2})
    assert steps_of(store, "run") == [0]


def test_keep_none_means_what_it_says(store):
    with manual(store, keep=keep.none()) as run:
        saved(run, 0)
        assert steps_of(run) == []


def test_lighter_checkpoints_are_planned_among_themselves(store):
    with manual(store, metric="loss", keep=keep.best(1)) as run:
        saved(run, 0, {"loss": 5})
        for step, loss in enumerate([3, 1, 2], start=1):
            saved(run, step, {"loss": loss}, kind="metrics")
        assert steps_of(run) == [0, 2]


def test_a_damaged_checkpoint_takes_no_place_in_a_plan(store):
    with manual(store, metric="loss", keep=keep.best(1)) as run:
        saved(run, 0, {"loss": 1})
        best = saved(run, 1, {"loss": 0.5})
        assert steps_of(run) == [1]
        flip(best)
        store.verify("run")
        saved(run, 2, {"loss": 3})
        saved(run, 3, {"loss": 4})
        assert steps_of(run) == [1, 2, 3]
        assert run.best().step == 2


def test_a_broken_manifest_is_no_reason_to_delete_an_intact_checkpoint(place):
    with holdfast.open(place) as store, manual(store) as run:
        saved(run, 0, {"loss": 1})
        flip(saved(run, 1, {"loss": 2}), "manifest.json")
    (place / "catalog.sqlite3").unlink()
    with holdfast.open(place) as store:
        plan = store.prune("run", policy=keep.latest(1))
        assert [info.step for info in plan.deleted] == []
        with store.run("run", save=when.never(), keep=keep.latest(1)) as run:
            model = attached(run, 1.0)
            assert run.resume() == 1
            assert model["w"].tolist() == [0.0] * 8


def test_created_at_rises_although_the_clock_jumps_back(place, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(time, "time", clock)
    with holdfast.open(place) as store, manual(store, keep=keep.latest(2)) as run:
        for step, now in enumerate([2e9, 1e9, 2e9 - 5, 1.5e9]):
            clock.now = now
            saved(run, step)
        assert steps_of(run) == [2, 3]
    clock.now = 1e9
    with holdfast.open(place) as store, manual(store) as run:
        saved(run, 4)
        times = [c.created_at for c in run.checkpoints(order_by="step")]
        assert times == sorted(set(times))
        assert run.latest().step == 4


def test_ids_are_unique_within_a_second_and_never_used_again(place, monkeypatch):
    monkeypatch.setattr(time, "time", Clock())
    seen: list[str] = []
    for _ in range(2):
        with holdfast.open(place) as store, manual(store, "a/b", keep=keep.latest(1)) as run:
            seen += [saved(run, step).id for step in range(2)]
            store.delete(seen[-1]).apply()
    stem = "a+b_20270115_080000"
    assert seen == [stem, f"{stem}-2", f"{stem}-3", f"{stem}-4"]


def test_after_a_rollback_the_lower_step_is_the_newer(store):
    with manual(store, keep=keep.latest(1)) as run:
        pinned = saved(run, 900)
        pinned.pin()
        saved(run, 1000)
        assert run.rollback("step:900") == 901
        saved(run, 910)
        assert steps_of(run) == [900, 910]
        assert run.latest().step == 910
        assert run.latest().parent == pinned.id


def test_order_never_comes_from_a_name_or_a_file_time(store):
    with manual(store, keep=keep.latest(2)) as run:
        for step in (900, 1000, 1100):
            saved(run, step)
        assert steps_of(run) == [1000, 1100]


def test_pinned_and_tagged_checkpoints_stay(store):
    with manual(store, keep=keep.latest(1) | keep.tagged("prod")) as run:
        for step in range(3):
            saved(run, step)
            if step == 0:
                run.latest().pin()
            if step == 1:
                run.latest().tag("prod", "other")
        saved(run, 3)
        assert steps_of(run) == [0, 1, 3]
        run.get("tag:prod").untag("prod")
        run.get("step:0").unpin()
        saved(run, 4)
        assert steps_of(run) == [4]


def test_the_first_of_each_window_stays_and_stays_when_planned_again(store):
    with manual(store, keep=keep.every(steps=10)) as run:
        for step in (3, 7, 12, 19, 21, 35):
            saved(run, step)
        assert steps_of(run) == [3, 12, 21, 35]
        assert store.prune("run").deleted == ()


def test_a_capped_run_loses_its_worst_and_oldest_first(store):
    with manual(store, metric="loss", keep=keep.all().capped(60_000)) as run:
        model = weights(size=2500)
        run.attach(model=model)
        for step, loss in enumerate([1.0, 4.0, 3.0, 2.0]):
            model["w"][:] = step
            saved(run, step, {"loss": loss}, kind="partial", items=["model"])
        assert steps_of(run) == [0, 3]


def test_a_deletion_is_a_plan_first(store):
    for name in ("study/a", "study/b", "other"):
        with manual(store, name) as run:
            saved(run, 0)
    plan = store.delete("study/*")
    assert len(store.checkpoints()) == 3
    assert {info.run for info in plan.deleted} == {"study/a", "study/b"}
    assert all(plan.reasons[info.id] for info in plan.deleted)
    plan.apply()
    assert [run.name for run in store.runs()] == ["other"]
    assert not list(store.path.glob("runs/study+*"))


def test_what_was_pinned_since_the_plan_stays(store):
    with manual(store) as run:
        ids = [saved(run, step).id for step in range(3)]
        plan = store.prune("run", policy=keep.latest(1))
        assert [info.id for info in plan.deleted] == ids[:2]
        store.get(ids[0]).pin()
        done = plan.apply()
        assert [info.id for info in done.deleted] == ids[1:2]
        assert steps_of(run) == [0, 2]


def test_every_deletion_is_explained_afterwards(store):
    with manual(store, keep=keep.latest(1)) as run:
        ids = [saved(run, step).id for step in range(2)]
        fates = {d.fate: d.reason for d in run.decisions(checkpoint_id=ids[0])}
        assert {"saved", "kept", "deleted"} <= fates.keys()
        assert ids[1] in fates["deleted"]


def test_nothing_outside_the_run_is_deleted(store):
    with manual(store, "one") as run:
        saved(run, 0)
    stranger = store.path / "runs" / "one" / "notes.txt"
    stranger.write_text("mine")
    with manual(store, "two", keep=keep.none()) as run:
        saved(run, 0)
    store.prune(policy=keep.none()).apply()
    store.delete("one").apply()
    assert stranger.read_text() == "mine"


@pytest.mark.parametrize("moment", ["deleted", "thinned"])
def test_an_interrupted_clean_up_is_finished_when_the_run_is_opened_again(place, moment):
    with holdfast.open(place) as store, manual(store) as run:
        run.attach(optimizer={"m": [1.0]})
        ids = [saved(run, step).id for step in range(2)]
        thinned = {ids[0]: ["model"]} if moment == "thinned" else {}
        deleted = [ids[0]] if moment == "deleted" else []
        line = {"t": "plan", "at": 0.0, "deleted": deleted, "thinned": thinned, "reasons": {}}
        store._place.append("run", [line], durable=True)
    with holdfast.open(place) as store, store.run("run", save=when.never()) as run:
        found = {c.id: c.items for c in run.checkpoints()}
    assert found.get(ids[0]) == (None if moment == "deleted" else ("model",))
    assert ids[1] in found
