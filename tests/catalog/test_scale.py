"""What stays fast with a million checkpoints: look-ups go by an index and sort nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, inspect

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
    "page of the pinned": lambda one: one.checkpoints(where="pinned = true", limit=5),
    "history": lambda one: one.history("a", "loss"),
    "decisions": lambda one: one.decisions("a", step=1),
    "decisions on one": lambda one: one.decisions("a", checkpoint_id="x"),
    "pin": lambda one: one.set_pinned(checkpoint(1, "a").info.id, True),
    "put": lambda one: one.put_checkpoint(checkpoint(500, "a", metrics={"loss": 1.0})),
    "drop": lambda one: one.drop_checkpoint(checkpoint(500, "a").info.id),
    "forget": lambda one: one.forget_run("b"),
}


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Catalog]:
    """A catalog of a few hundred checkpoints in two runs."""
    with Catalog.open(tmp_path / "catalog.sqlite3", store_id="s") as catalog:
        for run in ("a", "b"):
            records = tuple(
                checkpoint(
                    number,
                    run,
                    metrics={"loss": 1 / number},
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
    seen: list[tuple[str, Any]] = []
    engine = filled._database().engine

    @event.listens_for(engine, "before_cursor_execute")
    def note(*call: Any) -> None:
        seen.append((call[2], call[3]))

    ASKED[asked](filled)
    steps = []
    with engine.connect() as plain:
        for statement, values in [one for one in seen if one[0][:6] != "INSERT"]:
            if statement.split(maxsplit=1)[0] in ("SELECT", "UPDATE", "DELETE"):
                rows = plain.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
                steps += [row[3] for row in rows]
    assert steps
    bad = [
        step
        for step in steps
        # A scan along an index stops when its page is full; few saves are pending at a time.
        if (step.startswith("SCAN holdfast") and "INDEX" not in step and "pending" not in step)
        or step == "USE TEMP B-TREE FOR ORDER BY"
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
