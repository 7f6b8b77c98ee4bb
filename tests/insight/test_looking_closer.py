"""One run closely, a story in sentences, what takes space, where states come from, side by side."""

from __future__ import annotations

import numpy as np
import pytest

import holdfast
from holdfast import ConfigError, NotFoundError, keep, when
from holdfast.insight import (
    Overview,
    close_up,
    compare,
    freed_by,
    lineage_of,
    marks_of,
    soundness_of,
    space_of,
    story_of,
)
from tests.lifecycle.stores import flip, train


@pytest.fixture
def store(tmp_path):
    with holdfast.open(tmp_path / "store") as store:
        yield store


# -- one run -------------------------------------------------------------------------------------


def test_a_run_seen_closely_is_what_the_store_says_of_it(store):
    saved = train(store, "run", [3, 1, 2], frozen=7)
    train(store, "other", [5], frozen=7)
    seen = close_up(store, Overview(store), "run")
    assert seen.metrics[0] == "loss"
    assert seen.best.id == saved[1].id
    assert seen.latest.id == saved[2].id
    assert seen.checkpoints == 3
    assert seen.unique_nbytes < seen.stored_nbytes
    assert [d.fate for d in seen.decisions].count("saved") == 3
    with pytest.raises(NotFoundError):
        close_up(store, Overview(store), "nothing")


def test_marks_kept_up_to_date_are_those_that_are_made_anew(store):
    overview = Overview(store)
    run = store.run("run", metric="loss", save=when.never(), keep=keep.best(2) | keep.latest(1))
    with run:
        run.attach(model={"w": np.zeros(3)})
        for step, loss in enumerate([5, 1, 3, 4, 2, 6]):
            run.save(step, {"loss": float(loss)}).wait()
            if step == 3:
                run.best().pin()
            course = overview.course("run")
            assert list(overview.marks(course)) == marks_of(store["run"], course)
    assert {mark.fate for mark in overview.marks(overview.course("run"))} == {"kept", "deleted"}
    store.best("loss", run="run").unpin()
    store.delete("run").apply()
    train(store, "run", [1])
    course = overview.course("run")
    assert list(overview.marks(course)) == marks_of(store["run"], course)
    assert len(overview.marks(course)) == 1


def test_what_was_thinned_stays_so_when_a_later_clean_up_keeps_it(store):
    policy = keep.best(1).items("model") | keep.latest(1)
    run = store.run("run", metric="loss", save=when.never(), keep=policy)
    with run:
        run.attach(model={"w": np.zeros(3)}, optimizer={"m": np.zeros(3)})
        for step, loss in enumerate([1, 2, 3, 4]):
            run.save(step, {"loss": float(loss)}).wait()
    overview = Overview(store)
    marks = overview.marks(overview.course("run"))
    assert [mark.fate for mark in marks] == ["thinned", "deleted", "deleted", "kept"]


def test_a_run_that_rests_is_looked_at_again_when_anything_is_said_of_it(store):
    saved = train(store, "run", [3, 1])
    overview = Overview(store)
    assert overview.summary().runs[0].best.id == saved[1].id
    saved[0].report(loss=0.5)
    assert overview.summary().runs[0].best.id == saved[0].id
    with store.run("run", metric="loss") as run:
        run.step(9, loss=9.0)
        assert overview.summary().runs[0].info.status == "running"
        run.wait()
        assert overview.summary().runs[0].last_step == 9


# -- stories -------------------------------------------------------------------------------------


def test_a_story_tells_what_was_reported_decided_and_what_is_left(store):
    saved = train(store, "run", [5, 1, 3, 4], policy=keep.best(1) | keep.latest(1))
    gone = story_of(store, "run", "0")
    assert gone.checkpoint is None
    assert any(f"{saved[0].id} was saved: manual" in said for said in gone.sentences)
    assert any(f"{saved[0].id} was deleted: not among the best" in s for s in gone.sentences)
    assert gone.sentences[-1] == "It does not exist any more."
    there = story_of(store, "run", "best")
    assert there == story_of(store, "run", saved[1].id) == story_of(store, "run", "step 1")
    assert there.checkpoint == saved[1].id
    assert there.sentences[-1].startswith("A clean-up now would keep it: best 1 by loss")


def test_a_step_that_was_not_saved_says_why(store):
    with store.run("run", save=when.every(steps=10)) as run:
        run.attach(model={"w": np.zeros(3)})
        run.step(1, loss=0.25)
    story = story_of(store, "run", "1")
    assert story.sentences[0] == "Step 1 reported loss 0.2500."
    assert "it was not saved" in story.sentences[1]
    assert story.sentences[-1] == "There is no checkpoint of it."


@pytest.mark.parametrize(("asked", "error"), [("77", NotFoundError), ("what?", ConfigError)])
def test_a_story_of_nothing_is_an_error(store, asked, error):
    train(store, "run", [1])
    with pytest.raises(error):
        story_of(store, "run", asked)


# -- space ---------------------------------------------------------------------------------------


def test_what_takes_space_is_counted_once_by_run_and_by_item(store):
    train(store, "a", [3, 1, 2], frozen=7)
    train(store, "b", [4], frozen=7)
    space = space_of(store, Overview(store, budget="1GB"))
    usage = store.usage()
    assert list(space.runs) == ["a", "b"]
    assert (space.stored_nbytes, space.nbytes) == (usage.stored_nbytes, usage.nbytes)
    assert sum(space.items.values()) == usage.stored_nbytes
    assert set(space.items) == {"model", "frozen", "rng"}
    assert space.budget.limit_nbytes == 10**9


def test_what_a_policy_frees_is_what_its_plan_says_and_runs_without_a_metric_are_named(store):
    train(store, "a", [3, 1, 2])
    plan = store.prune(policy="best(1)")
    freed = freed_by(store, "best(1)")
    assert (freed.kept, freed.deleted, freed.nbytes) == (
        len(plan.kept), len(plan.deleted), plan.freed_nbytes,
    )  # fmt: skip
    with store.run("plain", save=when.never()) as run:
        run.attach(model={"w": np.zeros(3)})
        run.save(0).wait()
    assert freed_by(store, "best(1)").left_out == ("plain",)
    assert freed_by(store, "best(1)").deleted == len(plan.deleted)
    with pytest.raises(ConfigError, match="needs a metric"):
        freed_by(store, "best(1)", run="plain")
    with pytest.raises(ConfigError):
        freed_by(store, "what?")
    assert store.count() == 4


def test_what_was_verified_and_how_far_mirrors_are_is_known(store, tmp_path):
    saved = train(store, "run", [3, 1, 2])
    before = soundness_of(store)
    assert (before.runs["run"].sound, before.newest_at, before.mirrors) == (0, None, ())
    store.mirror(to=tmp_path / "mirror")
    flip(saved[0].path / "model.safetensors")
    store.verify()
    train(store, "late", [1])
    found = soundness_of(store)
    assert found.runs["run"].sound == 2
    assert list(found.runs["run"].damaged) == [saved[0].id]
    assert found.newest_at is not None
    mirror = found.mirrors[0]
    assert (mirror.reachable, mirror.missing, mirror.checkpoints) == (True, 1, 4)
    (tmp_path / "mirror").rename(tmp_path / "away")
    gone = soundness_of(store).mirrors[0]
    assert not gone.reachable
    assert "mounted" in gone.why


# -- lineage -------------------------------------------------------------------------------------


def branched(store, *, policy):
    with store.run("run", save=when.never(), keep=policy) as run:
        run.attach(model={"w": np.zeros(3)})
        for step in (0, 10, 20):
            run.save(step).wait()
        run.rollback("step:10")
        run.save(15).wait()
        run.save(25).wait()


def test_a_rollback_begins_a_chain_that_branches_off(store):
    branched(store, policy=keep.all())
    trunk, branch = lineage_of(store, Overview(store)).chains
    assert [node.step for node in trunk.nodes] == [0, 10, 20]
    assert [node.step for node in branch.nodes] == [15, 25]
    assert (trunk.kind, trunk.parent) == ("begin", None)
    assert (branch.kind, branch.parent) == ("rollback", trunk.nodes[1].id)


def test_going_on_is_the_same_chain_and_another_run_a_branch(store):
    with store.run("a", save=when.never()) as run:
        run.attach(model={"w": np.zeros(3)})
        run.save(0).wait()
    with store.run("a", save=when.never()) as run:
        run.attach(model={"w": np.zeros(3)})
        run.resume()
        run.save(1).wait()
    with store.run("b", save=when.never(), parent="a") as run:
        run.attach(model={"w": np.zeros(3)})
        run.resume("a@step:0")
        run.save(1).wait()
    first, second = lineage_of(store, Overview(store)).chains
    assert [node.step for node in first.nodes] == [0, 1]
    assert (second.run, second.kind, second.parent) == ("b", "run", first.nodes[0].id)
    assert second.parent_run == "a"
    assert [c.run for c in lineage_of(store, Overview(store), "b").chains] == ["b"]


def test_deleted_checkpoints_stay_in_their_chain(store):
    branched(store, policy=keep.latest(2))
    chains = lineage_of(store, Overview(store)).chains
    assert [[(node.step, node.there) for node in chain.nodes] for chain in chains] == [
        [(0, False), (10, False), (20, False)],
        [(15, True), (25, True)],
    ]
    assert chains[1].parent == chains[0].nodes[1].id


# -- side by side --------------------------------------------------------------------------------


def test_checkpoints_side_by_side_show_metrics_and_what_differs_of_the_configuration(store):
    one = train(store, "a", [3, 1], config={"lr": 0.1, "net": {"depth": 2}})
    other = train(store, "b", [4], config={"lr": 0.2, "net": {"depth": 2}, "seed": 1})
    found = compare(store, ["a", "b@latest", "a@step:0", "nothing", "a@step:9"])
    assert [entry.info.id for entry in found.entries] == [one[1].id, other[0].id, one[0].id]
    assert found.metrics == {"loss": (1.0, 4.0, 3.0)}
    assert found.config == {"lr": ("0.1", "0.2", "0.1"), "seed": ("-", "1", "-")}
    assert list(found.problems) == ["nothing", "a@step:9"]
    assert found.runs == ("a", "b")
