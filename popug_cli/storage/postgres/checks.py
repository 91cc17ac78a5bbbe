"""Checks of a PostgreSQL database that a copy in SQLite cannot make: its objects, and the columns of the log."""

import re
from collections.abc import Iterator
from itertools import zip_longest

from popug_cli.storage.port import Connection
from popug_cli.storage.postgres.schema import MIGRATIONS

_CREATED = re.compile(r"^CREATE (?:UNIQUE )?(TABLE|INDEX|TRIGGER|FUNCTION) (\w+)", re.MULTILINE)
SELECT_OBJECTS = """
    SELECT 'TABLE', tablename FROM pg_tables WHERE schemaname = current_schema()
    UNION ALL
    SELECT 'INDEX', indexrelid::regclass::text FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
        JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = current_schema() AND indisvalid
        AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = indexrelid)
    UNION ALL
    SELECT 'TRIGGER', tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
        JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = current_schema() AND NOT tgisinternal AND tgenabled IN ('O', 'A')
    UNION ALL
    SELECT 'FUNCTION', proname FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
    WHERE nspname = current_schema()
"""
SELECT_LOG_COLUMNS = "SELECT sequence, type, id, subject, actor, time FROM bus_log ORDER BY sequence"


def differing_objects(connection: Connection) -> Iterator[str]:
    """Yield each table, index, trigger and function that is missing, switched off or not popug's, as text."""
    expected = {
        (kind, name) for file in MIGRATIONS.glob("[0-9]*.sql") for kind, name in _CREATED.findall(file.read_text())
    }
    found = {(kind, name) for kind, name in connection.select(SELECT_OBJECTS)}
    for kind, name in sorted(expected - found):
        yield f"the {kind.lower()} {name} is missing or switched off"
    for kind, name in sorted(found - expected):
        yield f"the {kind.lower()} {name} is not popug's"


def differing_log_columns(connection: Connection, copy: Connection) -> Iterator[str]:
    """Yield the events whose columns differ from their envelopes, which ``copy`` computes them from."""
    stored, computed = connection.stream(SELECT_LOG_COLUMNS), copy.stream(SELECT_LOG_COLUMNS)
    for row, expected in zip_longest(stored, computed):
        if row != expected:
            yield f"the event {(row or expected)[0]}"
