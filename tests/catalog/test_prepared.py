"""Statements that are compiled once: values in their places, on both databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, bindparam, select

from holdfast.catalog import Catalog
from holdfast.catalog.connection import WRITES
from holdfast.catalog.prepared import Prepared, inserting
from holdfast.catalog.schema import sync

PUT = inserting(sync, "update")
RUNS: Prepared = Prepared(
    lambda _: (
        select(sync.c.run, sync.c.journal_nbytes)
        .where(sync.c.journal_nbytes < bindparam("most"), sync.c.folder_mtime_ns == 2)
        .where(
            sync.c.journal_nbytes > bindparam("least"), sync.c.journal_nbytes != bindparam("most")
        )
        .order_by(sync.c.run)
    ),
    "least",
    "most",
)


@pytest.fixture
def writer(catalog: Catalog) -> Iterator[Connection]:
    """A connection with a transaction that writes."""
    with catalog._database().engine.connect() as connection:
        options = connection.execution_options(**{WRITES: True})
        with options.begin():
            yield options


def test_values_come_to_their_places_among_constants_and_more_than_once(
    writer: Connection,
) -> None:
    PUT.many(writer, [("a", 1, 2, 0), ("b", 5, 2, 0), ("c", 5, 3, 0), ("d", 9, 2, 0)])
    assert [tuple(row) for row in RUNS.rows(writer, 0, 9)] == [("a", 1), ("b", 5)]
    assert tuple(RUNS.row(writer, 1, 10) or ()) == ("b", 5)
    assert RUNS.row(writer, 100, 101) is None


@pytest.mark.parametrize(
    ("statement", "left"),
    [
        (inserting(sync, "ignore"), (1, 2, 3)),
        (inserting(sync, "update"), (4, 5, 6)),
        (inserting(sync, "update", but=("filling",)), (4, 5, 3)),
    ],
)
def test_a_row_that_is_there_is_dealt_with_as_was_said(
    writer: Connection, statement: Prepared, left: tuple[int, int, int]
) -> None:
    statement(writer, "a", 1, 2, 3)
    statement.many(writer, [("a", 4, 5, 6)])
    found = writer.execute(select(sync.c.journal_nbytes, sync.c.folder_mtime_ns, sync.c.filling))
    assert [tuple(row) for row in found] == [left]


def test_a_statement_is_compiled_once_for_a_connection(writer: Connection) -> None:
    built = []

    def build(dialect: str) -> object:
        built.append(dialect)
        return select(sync.c.run)

    statement = Prepared(build)
    for _ in range(3):
        assert statement.rows(writer) == []
    assert built == [writer.dialect.name]


def test_no_rows_are_no_statement(writer: Connection) -> None:
    PUT.many(writer, [])
    PUT.many(writer, iter(()))
    assert RUNS.rows(writer, 0, 10) == []
