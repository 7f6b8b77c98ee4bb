"""The catalog against a plain dict of records, over any sequence of writes."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from holdfast.catalog import Catalog
from holdfast.model import CheckpointRecord, RunFacts, RunInfo
from tests.catalog.records import changed, checkpoint, plain_best, plain_latest

NUMBERS = st.integers(1, 8)
RUNS = st.sampled_from(["a", "b"])
VALUES = st.sampled_from([0.0, 1.0, 2.0, math.nan, math.inf, -math.inf])
METRICS = st.dictionaries(st.sampled_from(["loss", "acc"]), VALUES)
SHARDS = st.dictionaries(st.sampled_from(["s1", "s2", "s3"]), st.just(0)).map(
    lambda names: {name: 10 ** int(name[1]) for name in names}
)
TAGS = st.sets(st.sampled_from(["prod", "paper"])).map(lambda found: tuple(sorted(found)))
RECORDS = st.builds(
    checkpoint,
    number=NUMBERS,
    run=RUNS,
    step=st.integers(0, 3),
    metrics=METRICS,
    kind=st.sampled_from(["full", "weights", "partial", "metrics"]),
    damaged=st.booleans(),
    tags=TAGS,
    shards=SHARDS,
    nbytes=st.integers(0, 5),
)


class CatalogMachine(RuleBasedStateMachine):
    """Writes to a catalog and to a dict, and asks both."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "catalog.sqlite3"
        self.catalog = Catalog.open(self.path, store_id="s")
        self.plain: dict[str, CheckpointRecord] = {}

    def teardown(self) -> None:
        self.catalog.close()
        self.folder.cleanup()

    @rule(record=RECORDS)
    def put(self, record: CheckpointRecord) -> None:
        self.catalog.put_checkpoint(record)
        self.plain[record.info.id] = record

    @rule(number=NUMBERS, run=RUNS)
    def drop(self, number: int, run: str) -> None:
        name = checkpoint(number, run).info.id
        self.catalog.drop_checkpoint(name)
        self.plain.pop(name, None)

    @rule(number=NUMBERS, run=RUNS, metrics=METRICS, tags=TAGS, flag=st.booleans())
    def change(
        self, number: int, run: str, metrics: dict[str, float], tags: tuple[str, ...], flag: bool
    ) -> None:
        name = checkpoint(number, run).info.id
        if name not in self.plain:
            return
        before = self.plain[name]
        self.catalog.report(name, metrics)
        self.catalog.set_tags(name, tags)
        self.catalog.set_damaged(name, flag)
        self.plain[name] = changed(
            before, metrics={**before.info.metrics, **metrics}, tags=tags, damaged=flag
        )

    @rule(run=RUNS)
    def forget(self, run: str) -> None:
        self.catalog.forget_run(run)
        self.plain = {name: one for name, one in self.plain.items() if one.info.run != run}

    @rule(run=RUNS, records=st.lists(RECORDS, max_size=4, unique_by=lambda one: one.info.id))
    def replace_run(self, run: str, records: list[CheckpointRecord]) -> None:
        own = tuple(record for record in records if record.info.run == run)
        self.catalog.replace_run(RunFacts(RunInfo(run, 1.0), own, (), ()))
        self.plain = {name: one for name, one in self.plain.items() if one.info.run != run}
        self.plain |= {record.info.id: record for record in own}

    @rule(records=st.lists(RECORDS, max_size=4, unique_by=lambda one: one.info.id))
    def rebuild(self, records: list[CheckpointRecord]) -> None:
        with self.catalog.rebuilding():
            for run in ("a", "b"):
                own = tuple(record for record in records if record.info.run == run)
                self.catalog.replace_run(RunFacts(RunInfo(run, 1.0), own, (), ()))
        self.plain = {record.info.id: record for record in records}

    @rule()
    def reopen(self) -> None:
        self.catalog.close()
        self.catalog = Catalog.open(self.path, store_id="s")
        assert self.catalog.state == "ok"

    def of(self, run: str | None) -> list[CheckpointRecord]:
        """Returns the plain records of a run, or all."""
        found = [one for one in self.plain.values() if run in (None, one.info.run)]
        return sorted(found, key=lambda one: (one.info.created_at, one.info.id))

    @invariant()
    def answers_alike(self) -> None:
        for run in ("a", "b", None):
            records = self.of(run)
            assert repr(self.catalog.checkpoints(run, order_by="created_at")) == repr(records)
            assert repr(self.catalog.latest(run)) == repr(plain_latest(records))
            for metric, mode in (("loss", "min"), ("acc", "max")):
                best = plain_best(records, metric, mode)
                assert repr(self.catalog.best(metric, mode, run=run)) == repr(best)
            tagged = [one for one in records if "prod" in one.info.tags]
            assert repr(self.catalog.tagged(run, "prod")) == repr(tagged[-1] if tagged else None)
            low = [one for one in records if one.info.metrics.get("loss", math.inf) < 1]
            finite = [one for one in low if math.isfinite(one.info.metrics["loss"])]
            found = self.catalog.checkpoints(run, where="loss < 1", order_by="created_at")
            assert repr(found) == repr(finite)
            assert self.catalog.count(run) == len(records)

    @invariant()
    def counts_alike(self) -> None:
        usage = self.catalog.usage()
        shards = {run: self.shards_of(run) for run in ("a", "b")}
        assert usage.stored_nbytes == sum((shards["a"] | shards["b"]).values())
        for run, other in (("a", "b"), ("b", "a")):
            alone = shards[run].keys() - shards[other].keys()
            if run in usage.runs:
                assert usage.runs[run].checkpoints == len(self.of(run))
                assert usage.runs[run].stored_nbytes == sum(shards[run].values())
                assert usage.runs[run].unique_nbytes == sum(shards[run][name] for name in alone)
                assert usage.runs[run].nbytes == sum(one.nbytes for one in self.of(run))
            else:
                assert not self.of(run)

    def shards_of(self, run: str) -> dict[str, int]:
        """Returns the distinct shards of a run."""
        return {name: nbytes for one in self.of(run) for name, nbytes in one.info.shards.items()}


def test_any_sequence_of_writes_answers_like_a_plain_dict() -> None:
    # Without shrinking: each step is a commit to a file, and shrinking takes minutes of them.
    chosen = settings(
        max_examples=25,
        stateful_step_count=15,
        deadline=None,
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
    )
    run_state_machine_as_test(CatalogMachine, settings=chosen)
