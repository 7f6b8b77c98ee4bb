"""What stays fast with a million checkpoints: look-ups go by an index and sort nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect

from holdfast.catalog import Catalog, pages
from holdfast.model import RunFacts, RunInfo
from tests.catalog.records import checkpoint

ASKED: dict[str, Callable[[Catalog], Any]] = {
    "best": lambda one: one.best("loss", "min"),
    "best, high": lambda one: one.best("loss", "max"),
    "best of a run": lambda one: one.best("loss", "min", run="a"),
    "latest": lambda one: one.latest(),
    "latest of a run": lambda one: one.latest("a"),
    "at a step": lambda one: one.at_step("a", 10),
    "tagged": lambda one: one.tagged(None, "prod"),
    "tagged in a run": lambda one: one.tagged("a", "prod"),
    "get": lambda one: one.get(checkpoint(1, "a").info.id),
    "newest page": lambda one: one.checkpoints(limit=5),
    "oldest page": lambda one: one.checkpoints(order_by="created_at", limit=5),
    "newest page of a run": lambda one: one.checkpoints("a", limit=5),
    "page by step of a run": lambda one: one.checkpoints("a", order_by="-step", limit=5),
    "page by a column": lambda one: one.checkpoints(where="kind = full and step > 3", limit=5),
    "page by a metric": lambda one: one.checkpoints(where="loss < 0.5", limit=5),
    "page by a metric and a column": lambda one: one.checkpoints(
        where="loss < 0.5 and epoch != 3", limit=5
    ),
    "page by another metric": lambda one: one.checkpoints(
        where="acc < 150", order_by="loss", limit=5
    ),
    "page of a step": lambda one: one.checkpoints(where="step = 10", limit=5),
    "page of an epoch": lambda one: one.checkpoints(where="epoch = 1", limit=5),
    "page of a kind": lambda one: one.checkpoints(where="kind = weights", limit=5),
    "page of a reason": lambda one: one.checkpoints(where="reason = forced", limit=5),
    "page of the thinned": lambda one: one.checkpoints(where="thinned = true", limit=5),
    "page of runs": lambda one: one.checkpoints(where="run = a*", limit=5),
    "page by step": lambda one: one.checkpoints(order_by="-step", limit=5),
    "page by epoch": lambda one: one.checkpoints(order_by="-epoch", limit=5),
    "page by size": lambda one: one.checkpoints(order_by="-nbytes", limit=5),
    "page by id": lambda one: one.checkpoints(order_by="id", limit=5),
    "page of the pinned": lambda one: one.checkpoints(where="pinned = true", limit=5),
    "state of a run": lambda one: one.sync_state("a"),
    "names of runs": lambda one: one.run_names(),
    "usage": lambda one: one.usage(),
    "history": lambda one: one.history("a", "loss"),
    "decisions": lambda one: one.decisions("a", step=1),
    "decisions on one": lambda one: one.decisions("a", checkpoint_id="x"),
    "pin": lambda one: one.set_pinned(checkpoint(1, "a").info.id, True),
    "put": lambda one: one.put_checkpoint(checkpoint(500, "a", metrics={"loss": 1.0})),
    "drop": lambda one: one.drop_checkpoint(checkpoint(500, "a").info.id),
    "forget": lambda one: one.forget_run("b"),
}


#: What a lead names is sorted where that is few.
SORTED = {"page by a metric", "page by a metric and a column", "page by another metric"}


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Catalog]:
    """A catalog of a few hundred checkpoints in two runs."""
    with Catalog.open(tmp_path / "catalog.sqlite3", store_id="s") as catalog:
        for run in ("a", "b"):
            records = tuple(
                checkpoint(
                    number,
                    run,
                    metrics={"loss": 1 / number, "acc": float(number)},
                    kind="metrics" if number % 3 == 0 else "full",
                    tags=("prod",),
                    shards={f"s{number}": 1},
                )
                for number in range(1, 200)
            )
            catalog.replace_run(RunFacts(RunInfo(run, 1.0), records, (), ()))
        yield catalog


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("few", [2000, 3], ids=["few", "many"])
def test_a_look_up_scans_no_table_and_sorts_nothing(
    filled: Catalog, asked: str, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "FEW", few)
    seen: list[str] = []
    engine = filled._database().engine
    with engine.connect() as plain:
        # The driver's own report: hot statements go past SQLAlchemy. One connection is in the pool.
        driver = plain.connection.driver_connection
    driver.set_trace_callback(seen.append)
    ASKED[asked](filled)
    driver.set_trace_callback(None)
    steps = []
    with engine.connect() as plain:
        for statement in seen:
            if statement.split(maxsplit=1)[0] in ("SELECT", "UPDATE", "DELETE"):
                rows = plain.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}")
                steps += [row[3] for row in rows]
    assert steps
    bad = [
        step
        for step in steps
        # A scan along an index stops when its page is full; few saves are pending at a time, and
        # a run has one row of totals.
        if (step.startswith("SCAN holdfast") and not re.search("INDEX|pending|totals", step))
        or (step == "USE TEMP B-TREE FOR ORDER BY" and not (few > 3 and asked in SORTED))
    ]
    assert bad == []


def test_a_rebuild_leaves_every_index_in_place(catalog: Catalog) -> None:
    def indexes() -> set[str | None]:
        with catalog._database().engine.connect() as plain:
            options = plain.get_execution_options()
            where = dict(options.get("schema_translate_map", {})).get(None)
            found = inspect(plain)
            names = found.get_table_names(schema=where)
            return {one["name"] for name in names for one in found.get_indexes(name, schema=where)}

    before = indexes()
    with catalog.rebuilding():
        catalog.replace_run(RunFacts(RunInfo("a", 1.0), (checkpoint(1, "a"),), (), ()))
    assert before
    assert indexes() == before
