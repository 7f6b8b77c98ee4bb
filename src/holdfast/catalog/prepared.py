"""Statements that are compiled once per connection and handed straight to the driver.

A save runs a dozen small statements. Building and looking up each of them anew in SQLAlchemy takes
ten times as long as SQLite needs to carry it out.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any, Literal

from sqlalchemy import Connection, Dialect, Table, insert
from sqlalchemy.dialects import postgresql, sqlite

Conflict = Literal["refuse", "ignore", "update"]

#: Puts a caller's values into the order of the statement; None where that is the same.
_Arrange = Callable[[Sequence[object]], tuple[object, ...]] | None

_CACHE = "holdfast_prepared"


class Prepared:
    """A statement with named values.

    Args:
        build: Returns it for a dialect, by the dialect's name.
        names: Names of its values, in the order in which callers pass them.
    """

    __slots__ = ("_build", "_names")

    def __init__(self, build: Callable[[str], Any], *names: str) -> None:
        self._build = build
        self._names = names

    def __call__(self, connection: Connection, *values: object) -> None:
        """Carries it out once."""
        self._execute(connection, values)

    def rows(self, connection: Connection, *values: object) -> list[tuple[Any, ...]]:
        """Carries it out and returns all rows; SQLite's booleans are 0 and 1 in them."""
        found: list[tuple[Any, ...]] = self._execute(connection, values).fetchall()
        return found

    def row(self, connection: Connection, *values: object) -> tuple[Any, ...] | None:
        """Carries it out and returns the first row, if there is one."""
        return next(iter(self.rows(connection, *values)), None)

    def many(self, connection: Connection, rows: Iterable[Sequence[object]]) -> None:
        """Carries it out for each row of values."""
        text, arrange = self._compiled(connection)
        listed = list(rows) if arrange is None else list(map(arrange, rows))
        if not listed:
            return
        if connection.dialect.name == "sqlite":
            _driver(connection).executemany(text, listed)
        else:
            connection.exec_driver_sql(text, listed)

    def _execute(self, connection: Connection, values: tuple[object, ...]) -> Any:
        text, arrange = self._compiled(connection)
        if arrange is not None:
            values = arrange(values)
        if connection.dialect.name == "sqlite":
            return _driver(connection).execute(text, values)
        return connection.exec_driver_sql(text, values)

    def _compiled(self, connection: Connection) -> tuple[str, _Arrange]:
        cache: dict[Prepared, tuple[str, _Arrange]] = connection.info.setdefault(_CACHE, {})
        found = cache.get(self)
        if found is None:
            found = cache[self] = self._compile(connection)
        return found

    def _compile(self, connection: Connection) -> tuple[str, _Arrange]:
        dialect = _positional(connection.dialect)
        statement = self._build(dialect.name)
        schemas = connection.get_execution_options().get("schema_translate_map")
        compiled = statement.compile(
            dialect=dialect,
            schema_translate_map=schemas,
            render_schema_translate=schemas is not None,
            # What an insert leaves out the database gives.
            **({"column_keys": self._names} if statement.is_insert else {}),
        )
        order = tuple(compiled.positiontup)
        if order == self._names:
            return str(compiled), None
        constants = compiled.params
        places = {name: index for index, name in enumerate(self._names)}

        def arrange(values: Sequence[object]) -> tuple[object, ...]:
            return tuple(
                values[places[name]] if name in places else constants[name] for name in order
            )

        return str(compiled), arrange


def inserting(table: Table, conflict: Conflict = "refuse", *, but: Container[str] = ()) -> Prepared:
    """Returns the statement that adds a row to a table.

    Its values are the table's columns in their order, but for a number that the database gives.

    Args:
        table: The table.
        conflict: What becomes of a row whose key is there already.
        but: Columns that an update leaves as they are.
    """
    names = [column.name for column in table.columns if column.name != "sequence"]
    keys = [column.name for column in table.primary_key]

    def build(dialect: str) -> Any:
        if conflict == "refuse":
            return insert(table).inline()
        # The two dialects spell it alike, in two classes without a common one.
        statement: Any = (postgresql if dialect == "postgresql" else sqlite).insert(table).inline()
        if conflict == "ignore":
            return statement.on_conflict_do_nothing()
        changed = {
            name: statement.excluded[name] for name in names if name not in keys and name not in but
        }
        return statement.on_conflict_do_update(index_elements=keys, set_=changed)

    return Prepared(build, *names)


def _driver(connection: Connection) -> Any:
    # Its errors are translated like SQLAlchemy's (see `holdfast.catalog.connection.translated`).
    return connection.connection.driver_connection


def _positional(dialect: Dialect) -> Dialect:
    """Returns a dialect whose statements take their values in order, not by name."""
    if dialect.positional:
        return dialect
    kind: Any = type(dialect)
    positional: Dialect = kind(paramstyle="format")
    return positional
