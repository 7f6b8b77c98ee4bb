"""Filter terms to SQL conditions on ``checkpoints``, every value as a bound parameter."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import ColumnElement, Double, Select, and_, exists, literal, not_, select, true
from sqlalchemy.sql.elements import ColumnClause

from holdfast.catalog.filters import Term, is_pattern
from holdfast.catalog.schema import checkpoints, scores, tags

_COMPARE: dict[str, Callable[[Any, Any], ColumnElement[bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "!=": operator.ne,
}


def condition(term: Term, *, dialect: str) -> ColumnElement[bool]:
    """Returns what a term asks of a row of ``checkpoints``.

    A checkpoint without the field (no such metric, no epoch) matches no comparison of it; one
    without any tag matches every ``tag != ...``.

    Args:
        term: The term.
        dialect: Name of the database's dialect: wildcards are written differently.
    """
    if term.metric:
        return (
            exists()
            .where(
                scores.c.checkpoint == checkpoints.c.id,
                scores.c.name == term.field,
                compared(scores.c.value, term),
            )
            .correlate(checkpoints)
        )
    if term.field == "tag":
        found: ColumnElement[bool] = (
            exists()
            .where(
                tags.c.checkpoint == checkpoints.c.id,
                _matches(tags.c.tag, str(term.value), dialect=dialect),
            )
            .correlate(checkpoints)
        )
        return found if term.operator == "=" else not_(found)
    if term.field in ("kind", "reason", "run", "id"):
        column = checkpoints.c["code" if term.field == "reason" else term.field]
        found = _matches(column, str(term.value), dialect=dialect)
        return found if term.operator == "=" else not_(found)
    column = checkpoints.c[term.field]
    if isinstance(term.value, bool):
        return column if term.value == (term.operator == "=") else not_(column)
    return compared(column, term)


def compared(column: ColumnElement[Any], term: Term) -> ColumnElement[bool]:
    """Returns the comparison of a number column with a term's value."""
    value = term.value
    # A float stays one against an integer column: step < 10.5 is not step < 10.
    bound = literal(value, Double) if isinstance(value, float) else value
    return _COMPARE[term.operator](column, bound)


def drivers(terms: Iterable[Term], *, run: str | None, dialect: str) -> list[Select[Any]]:
    """Returns, for each term that an index answers, the select of the ids that match it.

    What they select is a superset of the answer; each may be far smaller than the table.
    """
    found: list[Select[Any]] = []
    for term in terms:
        if term.metric:
            within = [scores.c.run == run] if run is not None else []
            matching = (scores.c.name == term.field, compared(scores.c.value, term))
            partitions = scores.c.rankable.in_((0, 1))
            if term.operator != "!=":
                found.append(select(scores.c.checkpoint).where(*within, partitions, *matching))
        elif term.field == "tag" and term.operator == "=" and not is_pattern(str(term.value)):
            within = [tags.c.run == run] if run is not None else []
            found.append(select(tags.c.checkpoint).where(*within, tags.c.tag == term.value))
        elif term.field in ("pinned", "damaged") and term.value == (term.operator == "="):
            found.append(select(checkpoints.c.id).where(checkpoints.c[term.field]))
        elif term.field == "step" and run is not None and term.operator != "!=":
            found.append(
                select(checkpoints.c.id).where(
                    checkpoints.c.run == run, compared(checkpoints.c.step, term)
                )
            )
        elif term.field == "id" and term.operator == "=":
            matches = _matches(checkpoints.c.id, str(term.value), dialect=dialect)
            found.append(select(checkpoints.c.id).where(matches))
    return found


def all_of(terms: Iterable[Term], *, dialect: str) -> ColumnElement[bool]:
    """Returns the conjunction of all terms."""
    return and_(true(), *(condition(term, dialect=dialect) for term in terms))


def _matches(column: ColumnClause[Any], pattern: str, *, dialect: str) -> ColumnElement[bool]:
    if not is_pattern(pattern):
        return column == pattern
    if dialect == "sqlite":
        # SQLite's LIKE ignores case; its GLOB does not, and knows brackets besides.
        return column.op("GLOB", is_comparison=True)(pattern.replace("[", "[[]"))
    escaped = pattern.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
    return column.like(escaped.replace("*", "%").replace("?", "_"), escape="\\")
