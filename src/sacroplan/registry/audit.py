"""The database writes down every change itself: who, when, before and after.

The triggers live in the database, so that a change made with another program is recorded as well.
SQLite has no session variables: the row of ``actor`` is set and cleared inside each transaction.
PostgreSQL takes the name from a variable that ends with the transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

STRANGER = "another program"
"""Who changed something without saying so."""

_SQLITE_NOW = "strftime('%Y-%m-%dT%H:%M:%SZ','now')"


def statements(dialect: str, table: str, columns: Sequence[str]) -> Iterator[str]:
    """SQL that makes changes of ``table`` audited and deletion of its rows impossible."""
    yield from (_sqlite if dialect == "sqlite" else _postgresql)(table, columns)


def guard(dialect: str) -> Iterator[str]:
    """SQL that makes the audit itself append-only."""
    if dialect == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            yield (
                f"CREATE TRIGGER audit_no_{verb.lower()} BEFORE {verb} ON audit BEGIN "
                "SELECT RAISE(ABORT, 'the audit is append-only'); END"
            )
        return
    yield (
        "CREATE FUNCTION sacroplan_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION '%', TG_ARGV[0]; END $$"
    )
    yield (
        "CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION sacroplan_refuse('the audit is append-only')"
    )


def _sqlite(table: str, columns: Sequence[str]) -> Iterator[str]:
    def row(which: str) -> str:
        return "json_object(" + ",".join(f"'{c}',{which}.{c}" for c in columns) + ")"

    who = f"coalesce((SELECT who FROM actor), '{STRANGER}')"
    head = "INSERT INTO audit(changed_at, who, table_name, row_id, before, after) VALUES"
    yield (
        f"CREATE TRIGGER {table}_inserted AFTER INSERT ON {table} BEGIN {head} "
        f"({_SQLITE_NOW}, {who}, '{table}', NEW.id, NULL, {row('NEW')}); END"
    )
    yield (
        f"CREATE TRIGGER {table}_updated AFTER UPDATE ON {table} BEGIN {head} "
        f"({_SQLITE_NOW}, {who}, '{table}', NEW.id, {row('OLD')}, {row('NEW')}); END"
    )
    yield (
        f"CREATE TRIGGER {table}_kept BEFORE DELETE ON {table} BEGIN "
        "SELECT RAISE(ABORT, 'rows are marked as deleted, never removed'); END"
    )


def _postgresql(table: str, columns: Sequence[str]) -> Iterator[str]:
    who = f"coalesce(nullif(current_setting('sacroplan.who', true), ''), '{STRANGER}')"
    now = "to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
    head = "INSERT INTO audit(changed_at, who, table_name, row_id, before, after)"

    def row(which: str) -> str:
        pairs = ",".join(f"'{c}',{which}.{c}" for c in columns)
        return f"json_build_object({pairs})::text"

    # One statement for all rows that a COPY or INSERT brought: row triggers would take minutes.
    yield (
        f"CREATE FUNCTION {table}_audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF TG_OP = 'INSERT' THEN {head} SELECT {now}, {who}, '{table}', n.id, NULL, {row('n')} "
        "FROM new_rows n ORDER BY n.id; "
        f"ELSE {head} SELECT {now}, {who}, '{table}', n.id, {row('o')}, {row('n')} "
        "FROM new_rows n JOIN old_rows o ON o.id = n.id ORDER BY n.id; END IF; "
        "RETURN NULL; END $$"
    )
    yield (
        f"CREATE TRIGGER {table}_inserted AFTER INSERT ON {table} "
        f"REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION {table}_audit()"
    )
    yield (
        f"CREATE TRIGGER {table}_updated AFTER UPDATE ON {table} "
        "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_audit()"
    )
    yield (
        f"CREATE TRIGGER {table}_kept BEFORE DELETE OR TRUNCATE ON {table} FOR EACH STATEMENT "
        "EXECUTE FUNCTION sacroplan_refuse('rows are marked as deleted, never removed')"
    )
