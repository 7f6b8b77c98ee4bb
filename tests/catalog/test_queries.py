"""Best, latest, references, histories, usage: tables of what is asked and what is answered."""

from __future__ import annotations

import math
from typing import Any

import pytest

from holdfast.catalog import Catalog, RunUsage
from holdfast.errors import ConfigError, NotFoundError
from holdfast.model import Decision, RunFacts, RunInfo, StepRow
from tests.catalog.records import changed, checkpoint, ids, numbers

NAN, INF = math.nan, math.inf

BEST = [
    ("the lowest loss", "min", [{"loss": 2}, {"loss": 1}, {"loss": 3}], {}, 2),
    ("the highest accuracy", "max", [{"loss": 2}, {"loss": 1}, {"loss": 3}], {}, 3),
    ("the earlier of equals, low", "min", [{"loss": 1}, {"loss": 1}], {}, 1),
    ("the earlier of equals, high", "max", [{"loss": 1}, {"loss": 1}], {}, 1),
    ("no NaN", "max", [{"loss": NAN}, {"loss": 1}, {"loss": NAN}], {}, 2),
    ("no infinity, high", "max", [{"loss": INF}, {"loss": 1}], {}, 2),
    ("no infinity, low", "min", [{"loss": -INF}, {"loss": 1}], {}, 2),
    ("none without the metric", "min", [{}, {"loss": 1}, {"other": 0}], {}, 2),
    ("weights", "min", [{"loss": 2}, {"loss": 1}], {2: {"kind": "weights"}}, 2),
    ("no metrics alone", "min", [{"loss": 2}, {"loss": 1}], {2: {"kind": "metrics"}}, 1),
    ("no part", "min", [{"loss": 2}, {"loss": 1}], {2: {"kind": "partial"}}, 1),
    ("none that is damaged", "min", [{"loss": 2}, {"loss": 1}], {2: {"damaged": True}}, 1),
    ("thinned ones", "min", [{"loss": 2}, {"loss": 1}], {2: {"thinned": True}}, 2),
    ("nothing of nothing", "min", [], {}, None),
    ("nothing where no value is finite", "min", [{"loss": NAN}, {"loss": INF}], {}, None),
]


@pytest.mark.parametrize("case", BEST, ids=[case[0] for case in BEST])
@pytest.mark.parametrize("run", ["digits", None])
def test_best_answers_by_the_rule(catalog: Catalog, run: str | None, case: tuple[Any, ...]) -> None:
    _, mode, metrics, fields, expected = case
    for number, values in enumerate(metrics, start=1):
        catalog.put_checkpoint(checkpoint(number, metrics=values, **fields.get(number, {})))
    found = catalog.best("loss", mode, run=run)
    assert (None if found is None else numbers([found])[0]) == expected


def test_best_refuses_a_direction_that_is_none(catalog: Catalog) -> None:
    with pytest.raises(ConfigError, match="upwards"):
        catalog.best("loss", "upwards")


def test_best_of_a_run_is_not_another_runs(catalog: Catalog) -> None:
    catalog.put_checkpoint(checkpoint(1, "a", metrics={"loss": 2.0}))
    catalog.put_checkpoint(checkpoint(2, "b", metrics={"loss": 1.0}))
    found = [catalog.best("loss", "min", run=run) for run in ("a", "b", None, "c")]
    assert [None if one is None else one.info.run for one in found] == ["a", "b", "b", None]


def test_a_late_report_ranks_a_checkpoint_anew(catalog: Catalog) -> None:
    catalog.put_checkpoint(checkpoint(1, metrics={"loss": 1.0}))
    catalog.put_checkpoint(checkpoint(2, metrics={"loss": 2.0, "accuracy": 0.5}))
    catalog.report(checkpoint(2).info.id, {"loss": 0.5, "val": NAN})
    best = catalog.best("loss", "min")
    assert best is not None
    assert numbers([best]) == [2]
    assert repr(best.info.metrics) == "{'loss': 0.5, 'accuracy': 0.5, 'val': nan}"
    catalog.report(checkpoint(2).info.id, {"loss": NAN})
    best = catalog.best("loss", "min")
    assert best is not None
    assert numbers([best]) == [1]
    assert catalog.metric_names("digits") == ["accuracy", "loss", "val"]


def test_latest_passes_over_what_cannot_be_restored(catalog: Catalog) -> None:
    for number, kind in enumerate(["full", "weights", "full", "metrics", "partial"], start=1):
        catalog.put_checkpoint(checkpoint(number, kind=kind, damaged=number == 3))
    for run in ("digits", None):
        latest = catalog.latest(run)
        assert latest is not None
        assert numbers([latest]) == [2]
    catalog.set_damaged(checkpoint(3).info.id, False)
    latest = catalog.latest("digits")
    assert latest is not None
    assert numbers([latest]) == [3]
    assert catalog.latest("nobody") is None


def test_newest_is_by_time_and_not_by_step(catalog: Catalog) -> None:
    catalog.put_checkpoint(checkpoint(1, step=1000))
    catalog.put_checkpoint(checkpoint(2, step=910))
    catalog.put_checkpoint(checkpoint(3, step=910))
    latest, at_step = catalog.latest("digits"), catalog.at_step("digits", 910)
    assert latest is not None
    assert at_step is not None
    assert numbers([latest, at_step]) == [3, 3]
    assert catalog.at_step("digits", 911) is None
    assert catalog.at_step("other", 910) is None


def test_a_tag_leads_to_the_newest_that_has_it(catalog: Catalog) -> None:
    for number, run in enumerate(["a", "a", "b"], start=1):
        catalog.put_checkpoint(checkpoint(number, run, tags=("prod",)))
    catalog.set_tags(checkpoint(3, "b").info.id, ["z", "a", "z"])
    found = [catalog.tagged(run, tag) for run, tag in [("a", "prod"), (None, "prod"), ("b", "a")]]
    assert [None if one is None else numbers([one])[0] for one in found] == [2, 2, 3]
    assert catalog.tagged("b", "prod") is None
    record = catalog.get(checkpoint(3, "b").info.id)
    assert record is not None
    assert record.info.tags == ("a", "z")


def test_flags_change_only_what_they_say(catalog: Catalog) -> None:
    record = checkpoint(1, metrics={"loss": 1.0}, tags=("prod",), shards={"s": 5})
    catalog.put_checkpoint(record)
    catalog.set_pinned(record.info.id, True)
    assert catalog.get(record.info.id) == changed(record, pinned=True)
    catalog.set_damaged(record.info.id, True)
    assert catalog.get(record.info.id) == changed(record, pinned=True, damaged=True)
    catalog.set_pinned(record.info.id, False)
    catalog.set_damaged(record.info.id, False)
    assert catalog.get(record.info.id) == record


@pytest.mark.parametrize(
    ("method", "argument"),
    [("report", {"loss": 1}), ("set_pinned", True), ("set_damaged", True), ("set_tags", ["a"])],
)
def test_changing_an_unknown_checkpoint_names_it(
    catalog: Catalog, method: str, argument: object
) -> None:
    with pytest.raises(NotFoundError, match="digits_none"):
        getattr(catalog, method)("digits_none", argument)


def test_the_status_of_a_run_changes_alone(catalog: Catalog) -> None:
    catalog.put_run(RunInfo("digits", 5.0, config={"lr": 1}))
    catalog.set_status("digits", "finished")
    assert catalog.run("digits") == RunInfo("digits", 5.0, status="finished", config={"lr": 1})
    with pytest.raises(NotFoundError, match="letters"):
        catalog.set_status("letters", "finished")
    assert catalog.run("letters") is None


def test_a_dropped_checkpoint_is_gone_everywhere(catalog: Catalog) -> None:
    catalog.put_checkpoint(checkpoint(1, metrics={"loss": 1.0}, tags=("prod",), shards={"s": 5}))
    catalog.drop_checkpoint(checkpoint(1).info.id)
    catalog.drop_checkpoint(checkpoint(1).info.id)
    answers = [catalog.best("loss", "min"), catalog.latest(), catalog.tagged(None, "prod")]
    assert answers == [None, None, None]
    assert (catalog.count(), catalog.ids("digits")) == (0, set())
    assert catalog.usage().stored_nbytes == 0


def test_replacing_a_run_leaves_nothing_of_the_old_and_all_of_the_others(catalog: Catalog) -> None:
    step, decision = StepRow(1, 1.0, {"old": 1.0}), Decision(1.0, "saved", "x", 1, "old")
    for run in ("a", "b"):
        facts = (checkpoint(1, run, tags=("prod",), metrics={"old": 1.0}, shards={"s": 5}),)
        catalog.replace_run(RunFacts(RunInfo(run, 1.0), facts, (step,), (decision,), 11, 12))
        catalog.mark_pending(run, f"{run}_next")
    catalog.replace_run(RunFacts(RunInfo("a", 2.0), (checkpoint(2, "a"),), (), (), 21, 22))
    assert ids(catalog.checkpoints("a")) == ids([checkpoint(2, "a")])
    assert (catalog.steps("a"), catalog.decisions("a"), catalog.metric_names("a")) == ([], [], [])
    assert (catalog.steps("b"), catalog.decisions("b")) == ([step], [decision])
    assert catalog.metric_names() == ["old"]
    assert catalog.sync_states() == {"a": (21, 22), "b": (11, 12)}
    assert catalog.pending() == [("b", "b_next")]
    catalog.forget_run("b")
    assert [run.name for run in catalog.runs()] == ["a"]
    assert (catalog.count(), catalog.tagged(None, "prod"), catalog.pending()) == (1, None, [])


def test_an_id_that_moved_to_another_run_is_held_once(catalog: Catalog) -> None:
    moved = checkpoint(1, "old", metrics={"loss": 1.0}, shards={"s": 5})
    catalog.put_checkpoint(moved)
    there = changed(moved, run="new")
    catalog.replace_run(RunFacts(RunInfo("new", 1.0), (there,), (), ()))
    assert catalog.checkpoints() == [there]
    assert catalog.ids("old") == set()
    assert catalog.usage().runs["new"] == RunUsage(1, 0, 5, 5)


def test_pending_saves_and_sync_marks_are_kept_until_changed(catalog: Catalog) -> None:
    catalog.mark_pending("b", "b_1")
    catalog.mark_pending("a", "a_1")
    catalog.mark_pending("a", "a_1")
    assert catalog.pending() == [("a", "a_1"), ("b", "b_1")]
    catalog.clear_pending("a_1")
    catalog.clear_pending("a_1")
    assert catalog.pending() == [("b", "b_1")]
    catalog.set_sync("a", journal_nbytes=1, folder_mtime_ns=2)
    catalog.set_sync("a", journal_nbytes=2**40, folder_mtime_ns=1_793_000_000_123_456_789)
    assert catalog.sync_states() == {"a": (2**40, 1_793_000_000_123_456_789)}


def test_history_is_in_the_order_of_recording(catalog: Catalog) -> None:
    steps = [(1, 3.0), (2, NAN), (3, 2.5), (2, 2.0), (3, 1.5)]
    for number, (step, loss) in enumerate(steps):
        catalog.add_steps("digits", [StepRow(step, float(number), {"loss": loss, "lr": 1.0})])
    catalog.add_steps("digits", [StepRow(4, 9.0, {"val/loss": 1.0})])
    catalog.add_steps("letters", [StepRow(1, 1.0, {"loss": 9.0})])
    assert repr(catalog.history("digits", "loss")) == repr(steps)
    assert catalog.history("digits", "val/loss") == [(4, 1.0)]
    assert catalog.history("digits", "accuracy") == []
    assert [row.step for row in catalog.steps("digits", after=2)] == [3, 3, 4]
    assert catalog.metric_names("digits") == ["loss", "lr", "val/loss"]
    assert catalog.metric_names("letters") == ["loss"]


def test_a_resumed_run_shows_the_replay_alone(catalog: Catalog) -> None:
    first = [StepRow(step, float(step), {"loss": 10.0 - step}) for step in range(1, 6)]
    catalog.add_steps("digits", first)
    catalog.add_steps("letters", first)
    catalog.add_steps("digits", [StepRow(4, 100.0, {"loss": 0.5})])
    assert catalog.void_steps("digits", 3, before_at=100.0) == 2
    assert catalog.history("digits", "loss") == [(1, 9.0), (2, 8.0), (3, 7.0), (4, 0.5)]
    assert catalog.steps("letters") == first


def test_decisions_are_asked_by_step_by_checkpoint_and_newest(catalog: Catalog) -> None:
    made = [
        Decision(1.0, "saved", "improved", 1, "digits_1"),
        Decision(2.0, "skipped", "worse", 2),
        Decision(3.0, "deleted", "not among the best", 1, "digits_1"),
    ]
    catalog.add_decisions("digits", made)
    catalog.add_decisions("letters", made[:1])
    assert catalog.decisions("digits") == made
    assert catalog.decisions("digits", checkpoint_id="digits_1") == [made[0], made[2]]
    assert catalog.decisions("digits", step=2) == [made[1]]
    assert catalog.decisions("digits", limit=2) == made[1:]
    assert catalog.decisions("digits", step=1, limit=1) == [made[2]]


def test_a_shared_shard_is_counted_once(catalog: Catalog) -> None:
    catalog.put_run(RunInfo("empty", 1.0))
    shared, own = {"base": 100}, {"a1": 10, "a2": 20, "b1": 5}
    catalog.put_checkpoint(checkpoint(1, "a", shards=shared | {"a1": own["a1"]}, nbytes=110))
    catalog.put_checkpoint(checkpoint(2, "a", shards=shared | {"a2": own["a2"]}, nbytes=120))
    catalog.put_checkpoint(checkpoint(1, "b", shards=shared | {"b1": own["b1"]}, nbytes=105))
    usage = catalog.usage()
    assert usage.stored_nbytes == 135
    assert usage.runs == {
        "a": RunUsage(checkpoints=2, nbytes=230, stored_nbytes=130, unique_nbytes=30),
        "b": RunUsage(checkpoints=1, nbytes=105, stored_nbytes=105, unique_nbytes=5),
        "empty": RunUsage(),
    }
