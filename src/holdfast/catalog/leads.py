"""Leads: the indexes that name all checkpoints which a term of a filter matches.

A page that asks for few of many is read from the shortest lead, not from all checkpoints in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, FromClause, func, select

from holdfast.catalog.conditions import all_of, compared, matches
from holdfast.catalog.filters import Term, is_pattern
from holdfast.catalog.schema import PREFIX, checkpoints, scores, tags, totals
from holdfast.catalog.shares import STORE

#: Fields whose terms are asked of other tables than ``checkpoints``.
_ELSEWHERE: Final = frozenset({"tag"})
_COLUMN: Final = {"reason": "code"}


@dataclass(frozen=True, slots=True)
class Lead:
    """The checkpoints that match one term, as an index has them.

    Attributes:
        term: The term.
        source: The table that the index belongs to.
        ids: Its column with the ids of checkpoints.
        at: Its column with their times.
        where: What selects them.
        index: Name of the index, where SQLite may be tempted to choose another one.
        in_time: Whether the index has them in the order of time.
    """

    term: Term
    source: FromClause
    ids: ColumnElement[str]
    at: ColumnElement[float]
    where: tuple[ColumnElement[bool], ...]
    index: str = ""
    in_time: bool = False

    def size(self, connection: Connection, *, limit: int) -> int:
        """Returns how many it names, or `limit` where there are more."""
        some = self._hinted(select(self.ids).where(*self.where).limit(limit)).subquery()
        return connection.execute(select(func.count()).select_from(some)).scalar_one()

    def selected(self, terms: Iterable[Term], *, dialect: str, wide: bool = False) -> Any:
        """Returns the select of ``id`` and ``at`` of those that match the other terms, too.

        Args:
            terms: All terms of the filter.
            dialect: Name of the database's dialect.
            wide: Whether columns of ``checkpoints`` are needed for more than that.
        """
        others = [term for term in terms if term is not self.term]
        columns = select(self.ids.label("id"), self.at.label("at")).where(*self.where)
        columns = self._hinted(columns)
        if self.source is checkpoints:
            return columns.where(all_of(others, dialect=dialect))
        if wide or not all(term.metric or term.field in _ELSEWHERE for term in others):
            joined = self.source.join(checkpoints, checkpoints.c.id == self.ids)
            return columns.select_from(joined).where(all_of(others, dialect=dialect))
        return columns.where(all_of(others, dialect=dialect, ids=self.ids))

    def _hinted(self, statement: Any) -> Any:
        if not self.index:
            return statement
        return statement.with_hint(self.source, f"INDEXED BY {PREFIX}{self.index}", "sqlite")


def leads(terms: Iterable[Term], *, run: str | None, dialect: str) -> Iterator[Lead]:
    """Yields a lead for each term that an index answers.

    Args:
        terms: The terms of a filter.
        run: The run that is selected anyhow; None for all.
        dialect: Name of the database's dialect.
    """
    for term in terms:
        found = _lead(term, run, dialect)
        if found is not None:
            yield found


def _lead(term: Term, run: str | None, dialect: str) -> Lead | None:
    equal = term.operator == "=" and not is_pattern(str(term.value))
    if term.metric:
        within = () if run is None else (scores.c.run == run,)
        where = (*within, scores.c.name == term.field, scores.c.rankable.in_((0, 1)))
        asked = compared(scores.c.value, term)
        unequal = term.operator == "!="
        source = Lead(term, scores, scores.c.checkpoint, scores.c.created_at, (*where, asked))
        return None if unequal else source
    if term.field == "tag":
        within = () if run is None else (tags.c.run == run,)
        where = (*within, tags.c.tag == term.value)
        found = Lead(term, tags, tags.c.checkpoint, tags.c.created_at, where, in_time=True)
        return found if equal else None
    return _of_checkpoints(term, run, dialect, equal=equal)


def _of_checkpoints(term: Term, run: str | None, dialect: str, *, equal: bool) -> Lead | None:
    rows = checkpoints.c
    within = () if run is None else (rows.run == run,)
    where: ColumnElement[bool] | None = None
    index, in_time = "", False
    if term.field in ("pinned", "thinned", "damaged") and term.value == (term.operator == "="):
        where, in_time = rows[term.field], True
    elif term.field == "id" and term.operator == "=":
        where = matches(rows.id, str(term.value), dialect=dialect)
    elif term.field == "step" and run is not None and term.operator != "!=":
        where, in_time = compared(rows.step, term), equal
        index = "checkpoints_at_step"
    elif run is None and term.field in ("step", "epoch") and term.operator != "!=":
        where, in_time = compared(rows[term.field], term), equal
        index = f"checkpoints_by_{term.field}"
    elif run is None and term.field in ("kind", "reason") and equal:
        column = _COLUMN.get(term.field, term.field)
        where, in_time = rows[column] == term.value, True
        index = f"checkpoints_by_{column}"
    if where is None:
        return None
    return Lead(term, checkpoints, rows.id, rows.created_at, (*within, where), index, in_time)


def runs_like(
    connection: Connection, term: Term, *, descending: bool, limit: int
) -> list[tuple[str, float]]:
    """Returns the runs with checkpoints that a pattern matches, each with the time of one.

    Args:
        connection: Where they are.
        term: The pattern.
        descending: The newest one's time, or the oldest one's.
        limit: How many runs at most.
    """
    like = matches(totals.c.run, str(term.value), dialect=connection.dialect.name)
    first = func.max if descending else func.min
    rows = checkpoints.c
    ends = [
        select(first(rows.created_at))
        .where(rows.run == totals.c.run, rows.rankable == part)
        .scalar_subquery()
        for part in (0, 1)
    ]
    statement = select(totals.c.run, *ends).where(like, totals.c.checkpoints > 0).limit(limit)
    choose = max if descending else min
    return [
        (run, choose(at for at in found if at is not None))
        for run, *found in connection.execute(statement)
        if run != STORE
    ]
