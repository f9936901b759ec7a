"""Many rows into a table at once, inside a transaction that is already under way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sacroplan.registry.schema import table as table_of

Row = tuple[Any, ...]


def next_id(connection: Connection, table: str) -> int:
    """The first free id; it stays free while the writing transaction lasts."""
    highest = connection.execute(sa.select(sa.func.max(table_of(table).c.id))).scalar()
    return int(highest or 0) + 1


def insert(connection: Connection, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Insert ``rows`` (values in the order of ``columns``, ids included)."""
    if not rows:
        return
    names = ", ".join(columns)
    raw: Any = connection.connection.driver_connection
    try:
        if connection.dialect.name == "sqlite":
            marks = ", ".join("?" * len(columns))
            raw.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", rows)
            return
        with raw.cursor() as cursor, cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
    except connection.dialect.loaded_dbapi.Error as error:
        # The driver's own error, as SQLAlchemy would have raised it.
        raise sa.exc.DBAPIError.instance(
            None, None, error, connection.dialect.loaded_dbapi.Error
        ) from error


def settle(connection: Connection, table: str) -> None:
    """Tell PostgreSQL's counter which ids have been given out; SQLite counts from the table."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(
            f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), "
            f"(SELECT coalesce(max(id), 1) FROM {table}))"
        )
