"""Nested and slashed names are the same metric, in a pure call too."""

from holdfast import CheckpointInfo, Moment, keep, when


def test_a_nested_metric_of_a_moment_is_the_slashed_one():
    moment = Moment(
        step=1, now=0.0, metrics={"eval": {"loss": 0.2}}, best={"eval/loss": (0.3, 0.9)}
    )
    assert when.improved("eval/loss").decide(moment).save


def test_nested_metrics_of_checkpoints_are_ranked():
    infos = [
        CheckpointInfo(f"r_20260101_00000{n}", "r", n, float(n), {"eval": {"loss": loss}})
        for n, loss in enumerate([0.3, 0.1, 0.2])
    ]
    plan = keep.best(1, "eval/loss").plan(infos, finished=True)
    assert [info.step for info in plan.kept] == [1]
