"""A page of checkpoints: which ids match a filter, in which order, without reading the rest.

Three ways, chosen by what the indexes can tell at once:

- A term of the filter that few rows match (a probe of an index says so) names them, and only
  those are looked at.
- Otherwise an index in the order asked for is walked until the page is full.
- Orders without an index (``nbytes``, ``epoch``, ``id``, ``step`` over all runs) are sorted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    exists,
    false,
    func,
    not_,
    select,
    union_all,
)

from holdfast.catalog.conditions import all_of, compared, drivers
from holdfast.catalog.filters import Term
from holdfast.catalog.rows import RESTORABLE
from holdfast.catalog.schema import checkpoints, scores
from holdfast.errors import ConfigError
from holdfast.model import KINDS

#: Up to this many ids are looked at one by one, some 10 microseconds each.
FEW = 2000
#: Ids in one statement; SQLite takes 32,766 parameters at most, older builds 999.
BATCH = 500

_COLUMNS = frozenset({"created_at", "step", "epoch", "nbytes", "id"})
_BOTH = (1, 0)


@dataclass(frozen=True, slots=True)
class Order:
    """How a listing is ordered: by a column or a metric, rows without a value last.

    Rows that are equal in a column follow its direction by time and id; rows that are equal in a
    metric put the earlier first in both directions, as `best` does.
    """

    field: str
    descending: bool
    metric: bool


def order_of(order_by: str) -> Order:
    """Returns the order that ``order_by`` names; in backticks a name is a metric's.

    Raises:
        ConfigError: It names nothing.
    """
    name = order_by.removeprefix("-")
    metric = name not in _COLUMNS
    if len(name) > 1 and name[0] == name[-1] == "`":
        name = name[1:-1]
    if not name:
        raise ConfigError(
            f"order_by={order_by!r} names nothing to order by",
            hint="pass created_at, step, epoch, nbytes, id or a metric, with - before it to "
            "have the greatest first",
        )
    return Order(name, order_by.startswith("-"), metric)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which checkpoints: of a run or of all, matching all terms."""

    run: str | None
    terms: tuple[Term, ...]
    dialect: str

    def conditions(self) -> ColumnElement[bool]:
        """Returns the selection as a condition on ``checkpoints``."""
        matching = all_of(self.terms, dialect=self.dialect)
        return matching if self.run is None else and_(checkpoints.c.run == self.run, matching)

    def implied(self, rankable: int) -> list[ColumnElement[bool]]:
        """Returns what the filter's kind says about one of the two parts of the index.

        Without it a page of full checkpoints would walk all of the other part for nothing: a full
        one that is not rankable is damaged, and a partial one is never rankable.
        """
        kinds = {term.value for term in self.terms if term.field == "kind" and term.operator == "="}
        if rankable == 0 and kinds & RESTORABLE:
            return [checkpoints.c.damaged]
        if rankable == 1 and kinds & (frozenset(KINDS) - RESTORABLE):
            return [false()]
        return []

    def candidates(self, connection: Connection) -> list[str] | None:
        """Returns the ids that a term of the filter names, or None where that would be many."""
        for driver in drivers(self.terms, run=self.run, dialect=self.dialect):
            found = connection.execute(driver.limit(FEW + 1)).scalars().all()
            if len(found) <= FEW:
                return list(found)
        return None

    def total(self, connection: Connection) -> int:
        """Returns how many checkpoints are selected."""
        ids = self.candidates(connection)
        if ids is None:
            counting = select(func.count()).select_from(checkpoints).where(self.conditions())
            return connection.execute(counting).scalar_one()
        return len(_narrowed(connection, self, ids, select(checkpoints.c.id)))


def in_batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yields ids in batches that fit into one statement."""
    for start in range(0, len(ids), BATCH):
        yield ids[start : start + BATCH]


def page(
    connection: Connection, selection: Selection, order: Order, *, limit: int | None, offset: int
) -> list[str]:
    """Returns the ids of a page, in order."""
    ids = selection.candidates(connection)
    if ids is not None:
        found = _sorted(connection, selection, order, ids)
        return found[offset:] if limit is None else found[offset : offset + limit]
    if order.metric:
        return _by_metric(connection, selection, order, limit=limit, offset=offset)
    statement = _by_column(selection, order).offset(offset)
    if limit is not None or offset:
        # OFFSET needs a LIMIT in SQLite; SQLAlchemy writes -1 for none.
        statement = statement.limit(limit)
    return [row.id for row in connection.execute(statement)]


def _narrowed(
    connection: Connection, selection: Selection, ids: Sequence[str], columns: Select[Any]
) -> list[Any]:
    rows: list[Any] = []
    for some in in_batches(ids):
        rows += connection.execute(
            columns.where(checkpoints.c.id.in_(some), selection.conditions())
        )
    return rows


def _sorted(
    connection: Connection, selection: Selection, order: Order, ids: Sequence[str]
) -> list[str]:
    if order.metric:
        joined = checkpoints.outerjoin(
            scores, and_(scores.c.checkpoint == checkpoints.c.id, scores.c.name == order.field)
        )
        value: ColumnElement[Any] = scores.c.value
        columns = select(checkpoints.c.id, value, checkpoints.c.created_at).select_from(joined)
    else:
        value = checkpoints.c[order.field].label("value")
        columns = select(checkpoints.c.id, value, checkpoints.c.created_at)
    rows = _narrowed(connection, selection, ids, columns)
    rows.sort(
        key=lambda row: (row.created_at, row.id), reverse=not order.metric and order.descending
    )
    scored = [row for row in rows if row.value is not None]
    scored.sort(key=lambda row: row.value, reverse=order.descending)
    return [row.id for row in scored] + [row.id for row in rows if row.value is None]


def _by_column(selection: Selection, order: Order) -> Any:
    table = checkpoints.c
    names = dict.fromkeys((order.field, "created_at", "id"))
    if order.field == "created_at":
        parts = [
            select(table.created_at, table.id).where(
                table.rankable == part, *selection.implied(part), selection.conditions()
            )
            for part in _BOTH
        ]
        merged = union_all(*parts)
        return merged.order_by(*(_directed(merged.selected_columns[name], order) for name in names))
    statement = select(table.id).where(selection.conditions())
    if order.field == "epoch":
        statement = statement.order_by(table.epoch.is_(None))
    return statement.order_by(*(_directed(table[name], order) for name in names))


def _directed(column: ColumnElement[Any], order: Order) -> ColumnElement[Any]:
    return column.desc() if order.descending else column.asc()


def _by_metric(
    connection: Connection, selection: Selection, order: Order, *, limit: int | None, offset: int
) -> list[str]:
    merged = union_all(*(_scored(selection, order, part) for part in _BOTH))
    columns = merged.selected_columns
    keys = (_directed(columns.score, order), columns.at, columns.scored)
    statement = merged.order_by(*keys).limit(limit).offset(offset)
    found = [row.scored for row in connection.execute(statement)]
    if limit is not None and len(found) == limit:
        return found
    skipped = 0
    if offset and not found:
        counting = select(func.count()).select_from(merged.subquery())
        skipped = max(0, offset - connection.execute(counting).scalar_one())
    has_score = exists().where(
        scores.c.checkpoint == checkpoints.c.id, scores.c.name == order.field
    )
    rest = (
        select(checkpoints.c.id)
        .where(selection.conditions(), not_(has_score))
        .order_by(checkpoints.c.created_at, checkpoints.c.id)
        .limit(None if limit is None else limit - len(found))
        .offset(skipped)
    )
    return found + list(connection.execute(rest).scalars())


def _scored(selection: Selection, order: Order, part: int) -> Select[Any]:
    where = [scores.c.name == order.field, scores.c.rankable == part]
    if selection.run is not None:
        where.append(scores.c.run == selection.run)
    # A comparison of the metric that orders the page cuts the walk itself.
    others = []
    for term in selection.terms:
        if term.metric and term.field == order.field:
            where.append(compared(scores.c.value, term))
        else:
            others.append(term)
    # Names of their own: those of the tables are ambiguous in the order of a joined union.
    statement = select(
        scores.c.value.label("score"),
        scores.c.created_at.label("at"),
        scores.c.checkpoint.label("scored"),
    ).where(*where)
    if not others:
        return statement
    return statement.join(checkpoints, checkpoints.c.id == scores.c.checkpoint).where(
        all_of(others, dialect=selection.dialect)
    )
