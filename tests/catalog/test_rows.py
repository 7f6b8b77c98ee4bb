"""Every record comes back equal, whatever odd values it holds."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.catalog import Catalog
from holdfast.errors import ConfigError
from holdfast.model import CheckpointInfo, CheckpointRecord, Decision, RunFacts, RunInfo, StepRow
from tests.catalog.records import checkpoint

SHARED = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=12)
WHOLE = st.integers(0, 2**62)
NUMBER = st.floats(allow_nan=False)
TIME = st.floats(0, 4e9)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBER | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
OBJECT = st.dictionaries(st.text(max_size=8), JSON, max_size=3)
TAGS = st.sets(TEXT, max_size=3).map(lambda found: tuple(sorted(found)))

INFOS = st.builds(
    CheckpointInfo,
    id=TEXT,
    run=TEXT,
    step=st.integers(-(2**62), 2**62),
    created_at=TIME,
    metrics=st.dictionaries(TEXT, NUMBER, max_size=4),
    pinned=st.booleans(),
    tags=TAGS,
    kind=st.sampled_from(["full", "weights", "partial", "metrics"]),
    damaged=st.booleans(),
    awaiting=st.lists(TEXT, max_size=2).map(tuple),
    epoch=st.none() | st.integers(0, 10**6),
    shards=st.dictionaries(TEXT, WHOLE, max_size=3),
    items=st.lists(TEXT, max_size=3).map(tuple),
    thinned=st.booleans(),
    item_shards=st.dictionaries(TEXT, st.lists(TEXT, max_size=2).map(tuple), max_size=2),
    reason=st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20),
    parent=st.none() | TEXT,
)
RECORDS = st.builds(
    CheckpointRecord,
    info=INFOS,
    nbytes=WHOLE,
    stored_nbytes=WHOLE,
    generation=st.integers(1, 1000),
    metadata=OBJECT,
    finite=st.dictionaries(TEXT, st.booleans(), max_size=3),
)
RUNS = st.builds(
    RunInfo,
    name=TEXT,
    created_at=TIME,
    status=st.sampled_from(["running", "finished", "failed", "interrupted"]),
    metric=st.none() | TEXT,
    mode=st.sampled_from([None, "min", "max"]),
    config=OBJECT,
    policies=st.dictionaries(TEXT, TEXT, max_size=3),
    parent=st.none() | TEXT,
    environment=OBJECT,
)


@SHARED
@given(record=RECORDS)
def test_a_checkpoint_comes_back_equal(catalog: Catalog, record: CheckpointRecord) -> None:
    catalog.put_checkpoint(record)
    assert catalog.get(record.info.id) == record


@SHARED
@given(first=RECORDS, second=RECORDS)
def test_putting_a_checkpoint_again_replaces_all_of_it(
    catalog: Catalog, first: CheckpointRecord, second: CheckpointRecord
) -> None:
    second = replace(second, info=replace(second.info, id=first.info.id, run=first.info.run))
    with catalog.transaction():
        catalog.forget_run(first.info.run)
        catalog.put_checkpoint(first)
        catalog.put_checkpoint(second)
    assert catalog.checkpoints(first.info.run) == [second]
    for tag in first.info.tags:
        found = catalog.tagged(first.info.run, tag)
        assert (found == second) == (tag in second.info.tags)


@SHARED
@given(run=RUNS)
def test_a_run_comes_back_equal(catalog: Catalog, run: RunInfo) -> None:
    catalog.put_run(run)
    assert catalog.run(run.name) == run
    assert run in catalog.runs()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7e308, 0.1])
def test_a_value_comes_back_exactly(catalog: Catalog, value: float) -> None:
    catalog.put_checkpoint(checkpoint(1, metrics={"loss": value}, metadata={"seen": value}))
    catalog.add_steps("digits", [StepRow(10, 1.5, {"loss": value})])
    record = catalog.get(checkpoint(1).info.id)
    assert record is not None
    step = catalog.steps("digits")[0]
    answers = [
        record.info.metrics["loss"],
        record.metadata["seen"],
        step.metrics["loss"],
        catalog.history("digits", "loss")[0][1],
    ]
    assert [repr(answer) for answer in answers] == [repr(value)] * 4


def test_steps_and_decisions_come_back_equal(catalog: Catalog) -> None:
    steps = [
        StepRow(1, 10.5, {"loss": 2.0}, epoch=0, saved=True, reason="improved: loss 2"),
        StepRow(2, 11.5, {}, epoch=None, saved=False, reason=""),
    ]
    decisions = [
        Decision(10.5, "saved", "improved", 1, "digits_1"),
        Decision(11.5, "skipped", "not better", 2, None),
    ]
    run = RunInfo("digits", 1.0, config={"lr": 3e-4, "layers": [1, 2]})
    catalog.replace_run(RunFacts(run, (checkpoint(1),), tuple(steps), tuple(decisions), 7, 8))
    assert catalog.steps("digits") == steps
    assert catalog.decisions("digits") == decisions
    assert catalog.run("digits") == run
    assert catalog.checkpoints("digits") == [checkpoint(1)]


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", {(1, 2): 3}])
def test_metadata_that_json_cannot_hold_is_refused_by_name(catalog: Catalog, value: object) -> None:
    record = checkpoint(1, metadata={"odd": value})
    with pytest.raises(ConfigError, match=record.info.id):
        catalog.put_checkpoint(record)
    assert catalog.count() == 0
