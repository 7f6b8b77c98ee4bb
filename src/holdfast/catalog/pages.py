"""A page of checkpoints: which ids match a filter, in which order, without reading the rest.

Three ways, chosen by what the indexes can tell at once:

- A term of the filter that few rows match, or whose index is in the order asked for, leads
  (`holdfast.catalog.leads`): only what it names is looked at.
- Otherwise an index in the order asked for is walked until the page is full.
- Of runs by pattern, the newest run's newest come first, and the next run is asked only while the
  page is not full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
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

from holdfast.catalog.conditions import all_of, compared
from holdfast.catalog.filters import Term, is_pattern
from holdfast.catalog.leads import Lead, leads, runs_like
from holdfast.catalog.rows import RESTORABLE
from holdfast.catalog.schema import checkpoints, scores, totals
from holdfast.catalog.shares import STORE
from holdfast.errors import ConfigError
from holdfast.model import KINDS

#: Up to this many a lead is followed whatever the order; each takes some microseconds.
FEW = 2000
#: Up to so many times as many are sorted where nothing else is asked of them: a sort of what an
#: index holds takes a fraction of a look-up each.
_SORTED = 5
#: Up to so many runs are asked one after another.
_RUNS = 500
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

    def lead(self, connection: Connection, *, by_time: bool) -> Lead | None:
        """Returns the lead to follow; None where walking the order asked for is better.

        Args:
            connection: Where to ask how many a lead names.
            by_time: Whether the page is in the order of time, which some leads have.
        """
        alone = len(self.terms) == 1
        best: tuple[int, Lead] | None = None
        many = _SORTED * FEW if alone and by_time else FEW
        for lead in leads(self.terms, run=self.run, dialect=self.dialect):
            size = lead.size(connection, limit=many + 1)
            if best is None or size < best[0]:
                best = size, lead
        if best is None:
            return None
        size, lead = best
        # Of many that are in order already, the page is read off.
        off = by_time and lead.in_time and (alone or lead.term.field not in ("kind", "reason"))
        return lead if size <= many or off else None

    def total(self, connection: Connection) -> int:
        """Returns how many checkpoints are selected."""
        if not self.terms:
            name = STORE if self.run is None else self.run
            number = select(totals.c.checkpoints).where(totals.c.run == name)
            return int(connection.execute(number).scalar_one_or_none() or 0)
        lead = self.lead(connection, by_time=False)
        if lead is not None:
            found = lead.selected(self.terms, dialect=self.dialect).subquery()
            counting = select(func.count()).select_from(found)
        else:
            counting = select(func.count()).select_from(checkpoints).where(self.conditions())
        return connection.execute(counting).scalar_one()


def in_batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yields ids in batches that fit into one statement."""
    for start in range(0, len(ids), BATCH):
        yield ids[start : start + BATCH]


def page(
    connection: Connection, selection: Selection, order: Order, *, limit: int | None, offset: int
) -> list[str]:
    """Returns the ids of a page, in order."""
    by_time = order.field == "created_at" and not order.metric
    if selection.run is None:
        for term in selection.terms:
            if term.field != "run" or term.metric or term.operator != "=":
                continue
            rest = tuple(other for other in selection.terms if other is not term)
            if not is_pattern(str(term.value)):
                narrowed = replace(selection, run=str(term.value), terms=rest)
                return page(connection, narrowed, order, limit=limit, offset=offset)
            begins = runs_like(connection, term, descending=order.descending, limit=_RUNS + 1)
            if not begins:
                return []
            if by_time and limit is not None and len(begins) <= _RUNS:
                narrowed = replace(selection, terms=rest)
                wanted = limit + offset
                return _of_runs(connection, narrowed, order, begins, limit=wanted)[offset:]
            break
    lead = selection.lead(connection, by_time=by_time)
    if lead is not None:
        statement = _led(selection, lead, order)
    elif order.metric:
        return _by_metric(connection, selection, order, limit=limit, offset=offset)
    elif order.field == "epoch":
        return _by_epoch(connection, selection, order, limit=limit, offset=offset)
    else:
        statement = _by_column(selection, order, most=None if limit is None else limit + offset)
    return [row[0] for row in connection.execute(_cut(statement, limit, offset))]


def _cut(statement: Any, limit: int | None, offset: int) -> Any:
    # OFFSET needs a LIMIT in SQLite; SQLAlchemy writes -1 for none.
    return statement.limit(limit).offset(offset) if limit is not None or offset else statement


def _of_runs(
    connection: Connection,
    selection: Selection,
    order: Order,
    begins: Iterable[tuple[str, float]],
    *,
    limit: int,
) -> list[str]:
    """Returns the first ids of several runs by time; a run is asked only if it can have one.

    Args:
        connection: Where they are.
        selection: Which of them, whatever the run.
        order: By time.
        begins: The runs, each with the time of the first one in that order.
        limit: How many at most.
    """
    sign = -1 if order.descending else 1
    found: list[tuple[float, str]] = []
    for begin, run in sorted((sign * at, run) for run, at in begins):
        if len(found) >= limit and (not limit or found[-1][0] < begin):
            break
        statement = _by_column(replace(selection, run=run), order, most=limit).limit(limit)
        found += [(sign * at, checkpoint_id) for checkpoint_id, at in connection.execute(statement)]
        found.sort(key=lambda one: one[1], reverse=order.descending)
        found.sort(key=lambda one: one[0])
        del found[limit:]
    return [checkpoint_id for _, checkpoint_id in found]


def _led(selection: Selection, lead: Lead, order: Order) -> Any:
    """Returns the select of ids along a lead, in order."""
    by_time = order.field == "created_at" and not order.metric
    if by_time:
        columns = lead.selected(selection.terms, dialect=selection.dialect)
        return columns.order_by(_directed(lead.at, order), _directed(lead.ids, order))
    columns = lead.selected(selection.terms, dialect=selection.dialect, wide=not order.metric)
    if not order.metric:
        keys = [_directed(checkpoints.c[order.field], order)]
        if order.field == "epoch":
            keys.insert(0, checkpoints.c.epoch.is_(None))
        return columns.order_by(*keys, _directed(lead.at, order), _directed(lead.ids, order))
    score = scores.alias()
    value = (
        select(score.c.value)
        .where(score.c.checkpoint == lead.ids, score.c.name == order.field)
        .scalar_subquery()
    )
    columns = columns.add_columns(value.label("score")).subquery().select()
    score_of, at, ids = (columns.selected_columns[name] for name in ("score", "at", "id"))
    return columns.order_by(score_of.is_(None), _directed(score_of, order), at, ids)


def _by_column(selection: Selection, order: Order, *, most: int | None = None) -> Any:
    table = checkpoints.c
    names = dict.fromkeys((order.field, "created_at", "id"))
    if order.field == "created_at":
        parts = [
            select(table.id, table.created_at).where(
                table.rankable == part, *selection.implied(part), selection.conditions()
            )
            for part in _BOTH
        ]

        def keys(columns: Any) -> list[ColumnElement[Any]]:
            return [_directed(columns[name], order) for name in names]

        return _merged(parts, keys, dialect=selection.dialect, most=most)
    statement = select(table.id, table.created_at).where(selection.conditions())
    return statement.order_by(*(_directed(table[name], order) for name in names))


def _by_epoch(
    connection: Connection, selection: Selection, order: Order, *, limit: int | None, offset: int
) -> list[str]:
    """Returns the ids of a page by epoch: those without one after all others, by time."""
    epoch = checkpoints.c.epoch
    found: list[str] = []
    for part in (epoch.is_not(None), epoch.is_(None)):
        statement = _by_column(selection, order).where(part)
        left = None if limit is None else limit - len(found)
        found += [row[0] for row in connection.execute(_cut(statement, left, offset))]
        if limit is not None and len(found) == limit:
            break
        if offset and not found:
            some = _by_column(selection, order).where(part).order_by(None).subquery()
            number = connection.execute(select(func.count()).select_from(some)).scalar_one()
            offset = max(0, offset - number)
        else:
            offset = 0
    return found


def _merged(
    parts: Iterable[Select[Any]],
    keys: Callable[[Any], list[ColumnElement[Any]]],
    *,
    dialect: str,
    most: int | None,
) -> Any:
    """Returns the union of ranges of an index, in order.

    SQLite merges ranges that lie in order; PostgreSQL reads and sorts all of both unless each is
    cut by itself, which SQLite has no words for.

    Args:
        parts: The ranges.
        keys: The order, given a select's columns.
        dialect: Name of the database's dialect.
        most: How many rows are looked at, at most.
    """
    if dialect == "postgresql" and most is not None:
        parts = [part.order_by(*keys(part.selected_columns)).limit(most) for part in parts]
    merged = union_all(*parts)
    return merged.order_by(*keys(merged.selected_columns))


def _directed(column: ColumnElement[Any], order: Order) -> ColumnElement[Any]:
    return column.desc() if order.descending else column.asc()


def _by_metric(
    connection: Connection, selection: Selection, order: Order, *, limit: int | None, offset: int
) -> list[str]:
    def keys(columns: Any) -> list[ColumnElement[Any]]:
        return [_directed(columns.score, order), columns.at, columns.scored]

    parts = [_scored(selection, order, part) for part in _BOTH]
    most = None if limit is None else limit + offset
    statement = _merged(parts, keys, dialect=selection.dialect, most=most)
    found = [row.scored for row in connection.execute(statement.limit(limit).offset(offset))]
    if limit is not None and len(found) == limit:
        return found
    skipped = 0
    if offset and not found:
        counting = select(func.count()).select_from(union_all(*parts).subquery())
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
    if all(term.metric or term.field == "tag" for term in others):
        return statement.where(all_of(others, dialect=selection.dialect, ids=scores.c.checkpoint))
    return statement.join(checkpoints, checkpoints.c.id == scores.c.checkpoint).where(
        all_of(others, dialect=selection.dialect)
    )
