"""Filter terms to SQL conditions on ``checkpoints``, every value as a bound parameter."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import ColumnElement, Double, and_, exists, literal, not_, true
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


def condition(
    term: Term, *, dialect: str, ids: ColumnElement[str] = checkpoints.c.id
) -> ColumnElement[bool]:
    """Returns what a term asks of a row of ``checkpoints``.

    A checkpoint without the field (no such metric, no epoch) matches no comparison of it; one
    without any tag matches every ``tag != ...``.

    Args:
        term: The term.
        dialect: Name of the database's dialect: wildcards are written differently.
        ids: The column that holds the checkpoint's id; terms on metrics and tags need no more of
            the row.
    """
    if term.metric:
        score = scores.alias()
        return exists().where(
            score.c.checkpoint == ids,
            score.c.name == term.field,
            compared(score.c.value, term),
        )
    if term.field == "tag":
        tag = tags.alias()
        found: ColumnElement[bool] = exists().where(
            tag.c.checkpoint == ids, matches(tag.c.tag, str(term.value), dialect=dialect)
        )
        return found if term.operator == "=" else not_(found)
    if term.field in ("kind", "reason", "run", "id", "parent"):
        column = checkpoints.c["code" if term.field == "reason" else term.field]
        found = matches(column, str(term.value), dialect=dialect)
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


def all_of(
    terms: Iterable[Term], *, dialect: str, ids: ColumnElement[str] = checkpoints.c.id
) -> ColumnElement[bool]:
    """Returns the conjunction of all terms; arguments as for `condition`."""
    return and_(true(), *(condition(term, dialect=dialect, ids=ids) for term in terms))


def matches(column: ColumnClause[Any], pattern: str, *, dialect: str) -> ColumnElement[bool]:
    """Returns whether a text is, or matches, what a term says."""
    if not is_pattern(pattern):
        return column == pattern
    if dialect == "sqlite":
        # SQLite's LIKE ignores case; its GLOB does not, and knows brackets besides.
        return column.op("GLOB", is_comparison=True)(pattern.replace("[", "[[]"))
    escaped = pattern.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
    return column.like(escaped.replace("*", "%").replace("?", "_"), escape="\\")
