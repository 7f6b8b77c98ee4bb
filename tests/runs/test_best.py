"""Which checkpoint is best, and what is kept for it: the rules through a real store."""

import math

import pytest

import holdfast
from holdfast import keep, when
from tests.runs.samples import attached, manual, saved, steps_of

NAN, INF = math.nan, math.inf

# Losses in order, ids counted from 1, a plan after each save.
CASES = [
    pytest.param([2, 4, 1, 3], holdfast.CheckpointStrategy(2, "loss", "min"), {1, 3}, 3, id="ray"),
    pytest.param(
        [1, 1, 1, 1], holdfast.CheckpointStrategy(2, "loss", "min"), {1, 2}, 1, id="ray-ties"
    ),
    pytest.param([2, 4, 1, 3], keep.best(2, "loss"), {1, 3, 4}, 3, id="best-and-newest"),
    pytest.param([NAN, 3, 7, 5], keep.best(2, "loss"), {2, 4}, 2, id="nan-first"),
    pytest.param(list(range(10)), keep.latest(2), {9, 10}, 1, id="latest"),
    pytest.param([4, 3, 2, 1], keep.best(2, "loss"), {3, 4}, 4, id="falling"),
    pytest.param([4, 3, 2, 1, 5], keep.best(2, "loss"), {3, 4, 5}, 4, id="falling-then-worse"),
]


@pytest.mark.parametrize(("losses", "policy", "kept", "best"), CASES)
def test_cases_with_expected_outcomes(store, losses, policy, kept, best):
    with store.run("case", metric="loss", save=when.always(), keep=policy) as run:
        attached(run)
        for number, loss in enumerate(losses, start=1):
            run.step(number, loss=loss)
            run.wait()
        assert set(steps_of(run)) == kept
        if best in kept:
            assert run.best().step == store.get("case@best:loss").step == best


def test_best_as_weights_and_the_newest_in_full(store):
    policy = keep.best(2, "loss").items("model") | keep.latest(1)
    with store.run("case", metric="loss", save=when.always(), keep=policy) as run:
        attached(run)
        run.attach(optimizer={"momentum": [0.0]})
        for number, loss in enumerate([3, 2, 1, 4], start=1):
            run.step(number, loss=loss)
            run.wait()
        found = {c.step: (c.thinned, c.items) for c in run.checkpoints()}
        assert found == {
            2: (True, ("model",)),
            3: (True, ("model",)),
            4: (False, ("model", "optimizer", "rng")),
        }
        assert run.best().step == 3
        assert run.best().load("model")["w"].tolist() == [0.0] * 8


@pytest.mark.parametrize("odd", [NAN, INF, -INF, None])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_a_value_that_is_no_number_is_never_best_nor_pushes_one_out(store, odd, order):
    values = [odd, 5.0, 4.0]
    with store.run("run", metric="loss", save=when.always(), keep=keep.best(2)) as run:
        attached(run)
        for step, which in enumerate(order):
            run.step(step, {} if values[which] is None else {"loss": values[which]})
            run.wait()
        kept = {c.metrics.get("loss") for c in run.checkpoints()}
        assert {5.0, 4.0} <= kept
        assert run.best().metrics["loss"] == 4.0


def test_a_checkpoint_without_the_metric_ranks_last_and_one_warning_names_it(store, log):
    with store.run("run", metric="loss", save=when.always(), keep=keep.best(1)) as run:
        attached(run)
        run.step(0, loss=1.0)
        run.step(1, accuracy=0.5)
        run.step(2, accuracy=0.6)
        run.wait()
        assert steps_of(run) == [0, 2]
    warnings = [r.getMessage() for r in log.records if r.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "'loss'" in warnings[0]
    assert "accuracy" in warnings[0]


def test_the_missing_metric_of_the_keep_policy_is_warned_of_too(store, log):
    with store.run("run", save=when.always(), keep=keep.best(2, "eval/loss")) as run:
        attached(run)
        run.step(0, loss=1.0)
    assert "'eval/loss'" in log.text


def test_a_save_that_awaits_the_metric_is_not_warned_of(store, log):
    with manual(store, metric="val_loss") as run:
        saved(run, 0, {"loss": 1.0}, awaiting=["val_loss"])
    assert "without its metric" not in log.text


def test_nested_and_slashed_names_are_the_same_metric(store):
    with manual(store, metric="eval/loss") as run:
        saved(run, 0, {"eval/loss": 2.0})
        saved(run, 1, {"eval": {"loss": 1.0}})
        assert run.best().step == 1
        assert run.best().metrics == {"eval/loss": 1.0}


@pytest.mark.parametrize(("ties", "kept"), [("incumbent", {0, 2}), ("newest", {2})])
def test_on_a_tie_the_incumbent_stays_unless_the_newest_is_asked_for(store, ties, kept):
    policy = keep.best(1, "loss", ties=ties)
    with store.run("run", metric="loss", save=when.always(), keep=policy) as run:
        attached(run)
        for step in range(3):
            run.step(step, loss=1.0)
            run.wait()
        assert set(steps_of(run)) == kept


def test_accuracy_is_better_when_high_and_a_prefix_changes_nothing(store):
    with manual(store) as run:
        saved(run, 0, {"eval/accuracy": 0.5, "val_loss": 1.0})
        saved(run, 1, {"eval/accuracy": 0.9, "val_loss": 2.0})
        assert run.best("eval/accuracy").step == 1
        assert run.best("val_loss").step == 0


def test_the_runs_mode_is_used_for_its_metric(store):
    with manual(store, metric="distance", mode="min") as run:
        saved(run, 0, {"distance": 2.0})
        saved(run, 1, {"distance": 1.0})
        assert run.best().step == 1
        assert store.best("distance", run="run").step == 1
        assert store.get("run@best").step == 1


def test_best_and_latest_are_never_metrics_only(store):
    with manual(store, metric="loss") as run:
        saved(run, 0, {"loss": 2.0})
        saved(run, 1, {"loss": 1.0}, kind="weights", items=None)
        saved(run, 2, {"loss": 0.1}, kind="metrics")
        assert run.best().step == run.latest().step == 1
        assert store.latest().step == store.latest("run").step == 1
        assert store.best("loss").step == 1


def test_best_and_latest_say_so_when_there_is_none(store):
    with manual(store, metric="loss") as run:
        saved(run, 0, {"loss": 1.0}, kind="metrics")
        for ask in (run.best, run.latest, store.latest, lambda: store.best("loss")):
            with pytest.raises(holdfast.NotFoundError) as caught:
                ask()
            assert caught.value.hint


def test_best_of_a_misspelt_metric_names_the_nearest(store):
    with manual(store) as run:
        saved(run, 0, {"val_loss": 1.0})
        with pytest.raises(holdfast.NotFoundError) as caught:
            store.best("vall_loss", run="run")
        assert caught.value.nearest == ("val_loss",)


def test_what_awaits_its_score_stays_until_it_is_reported(store):
    with manual(store, metric="val_loss", keep=keep.best(1)) as run:
        saved(run, 0, {"val_loss": 1.0})
        late = saved(run, 1, awaiting=["val_loss"])
        saved(run, 2, {"val_loss": 3.0})
        saved(run, 3, {"val_loss": 4.0})
        assert steps_of(run) == [0, 1, 3]
        late.report(val_loss=2.0)
        saved(run, 4, {"val_loss": 5.0})
        assert steps_of(run) == [0, 4]


def test_what_awaits_its_score_is_let_go_when_the_run_finishes(store):
    with manual(store, metric="val_loss", keep=keep.best(1)) as run:
        saved(run, 0, {"val_loss": 1.0})
        saved(run, 1, awaiting=["val_loss"])
        run.finish({"val_loss": 3.0})
    assert steps_of(store, "run") == [0]


def test_unscored_protects_all_that_lack_the_metric(store):
    policy = keep.best(1, "val_loss") | keep.unscored("val_loss", hours=2)
    with manual(store, keep=policy) as run:
        for step in range(3):
            saved(run, step)
        assert steps_of(run) == [0, 1, 2]
