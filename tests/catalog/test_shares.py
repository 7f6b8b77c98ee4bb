"""Who holds which shard: totals that are kept up are what counting anew would find."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from holdfast.catalog import Catalog, RunUsage
from holdfast.model import RunFacts, RunInfo
from tests.catalog.records import changed, checkpoint

BASE = {"base": 100}


def facts(run: str, *shards: dict[str, int]) -> RunFacts:
    """The facts of a run with a checkpoint for each of the shards' sets."""
    records = tuple(
        checkpoint(number, run, shards=held, nbytes=sum(held.values()))
        for number, held in enumerate(shards, start=1)
    )
    return RunFacts(RunInfo(run, 1.0), records, (), ())


@pytest.fixture
def family(catalog: Catalog) -> Catalog:
    """Two runs that share a shard, and each have one of their own."""
    catalog.replace_run(facts("a", BASE | {"a1": 1}, BASE | {"a2": 2}))
    catalog.put_run(RunInfo("b", 1.0))
    catalog.put_checkpoint(checkpoint(1, "b", shards=BASE | {"b1": 10}, nbytes=110))
    return catalog


def first(run: str) -> str:
    """The id of a run's first checkpoint."""
    return checkpoint(1, run).info.id


#: What is done to the family, and what is unique to whom and stored in all afterwards.
EVENTS: dict[str, tuple[Callable[[Catalog], object], dict[str, int], int]] = {
    "nothing": (lambda _: None, {"a": 3, "b": 10}, 113),
    "a report": (lambda one: one.report(first("a"), {"loss": 1.0}), {"a": 3, "b": 10}, 113),
    "one of two holders goes": (
        lambda one: one.drop_checkpoint(first("a")),
        {"a": 2, "b": 10},
        112,
    ),
    "the last holder of a run goes": (
        lambda one: one.drop_checkpoint(first("b")),
        {"a": 103, "b": 0},
        103,
    ),
    "a run is forgotten": (lambda one: one.forget_run("a"), {"b": 110}, 110),
    "a run is replaced by less": (
        lambda one: one.replace_run(facts("a", {"a1": 1})),
        {"a": 1, "b": 110},
        111,
    ),
    "a third run comes": (
        lambda one: one.replace_run(facts("c", BASE)),
        {"a": 3, "b": 10, "c": 0},
        113,
    ),
    "a checkpoint is thinned": (
        lambda one: one.put_checkpoint(checkpoint(1, "b", shards={"b1": 10}, nbytes=10)),
        {"a": 103, "b": 10},
        113,
    ),
    "an id becomes another run's": (
        lambda one: one.put_checkpoint(
            changed(checkpoint(1, "b", shards=BASE, nbytes=100), run="a")
        ),
        {"a": 103, "b": 0},
        103,
    ),
    "a file says that an id is another run's": (
        lambda one: one.replace_run(
            RunFacts(
                RunInfo("a", 1.0),
                (changed(checkpoint(1, "b", shards={"a1": 1}, nbytes=1), run="a"),),
                (),
                (),
            )
        ),
        {"a": 1, "b": 0},
        1,
    ),
}


@pytest.mark.parametrize("event", EVENTS)
def test_what_happens_to_a_run_moves_what_is_unique_to_others(family: Catalog, event: str) -> None:
    act, unique, stored = EVENTS[event]
    act(family)
    usage = family.usage()
    assert {run: one.unique_nbytes for run, one in usage.runs.items()} == unique
    assert usage.stored_nbytes == stored


def test_a_rebuild_counts_what_writes_one_by_one_count(family: Catalog) -> None:
    before = family.usage()
    with family.rebuilding():
        family.replace_run(facts("a", BASE | {"a1": 1}, BASE | {"a2": 2}))
        family.replace_run(facts("b", BASE | {"b1": 10}))
    assert family.usage() == before
    assert before.runs["a"] == RunUsage(2, 203, 103, 3)


def test_what_is_counted_goes_with_what_is_undone(family: Catalog) -> None:
    before = family.usage()

    def write_and_fail() -> None:
        with family.transaction():
            family.put_checkpoint(checkpoint(3, "a", shards={"new": 5}))
            family.forget_run("b")
            raise KeyError("ours")

    with pytest.raises(KeyError, match="ours"):
        write_and_fail()
    assert family.usage() == before
    assert (family.count(), family.count("a"), family.count("nobody")) == (3, 2, 0)


def test_runs_that_share_and_are_written_at_once_are_counted_right(
    place: str, store_id: str
) -> None:
    start = threading.Barrier(3)
    shards = {f"shard{number}": 10 for number in range(5)}

    def write(run: str) -> None:
        with Catalog.open(place, store_id=store_id) as catalog:
            start.wait()
            for number in range(1, 11):
                catalog.put_checkpoint(checkpoint(number, run, shards=shards))
            for number in range(1, 11 if run == "c" else 9):
                catalog.drop_checkpoint(checkpoint(number, run).info.id)

    Catalog.open(place, store_id=store_id).close()
    with ThreadPoolExecutor(3) as threads:
        for done in [threads.submit(write, run) for run in ("a", "b", "c")]:
            done.result()
    with Catalog.open(place, store_id=store_id) as catalog:
        usage = catalog.usage()
        assert usage.runs == {"a": RunUsage(2, 0, 50, 0), "b": RunUsage(2, 0, 50, 0)}
        assert usage.stored_nbytes == 50
        catalog.forget_run("a")
        assert catalog.usage().runs == {"b": RunUsage(2, 0, 50, 50)}
