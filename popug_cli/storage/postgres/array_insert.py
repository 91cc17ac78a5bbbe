"""Insert many rows by one statement, with an array for each column: ``INSERT … SELECT … FROM unnest(…)``.

The statement with its values is one message (Query) of PostgreSQL's protocol. Until the server has all of it, the
session is idle in its transaction, and afterwards it is in a statement: a time limit of the server applies to both. A
COPY has no such limit while the server waits for its data, nor has a long message that follows the Parse message of
the same statement: https://www.postgresql.org/docs/15/protocol-flow.html
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import psycopg
from psycopg.pq import Escaping

from popug_cli.storage.postgres.dialect import CACHED_STATEMENTS
from popug_cli.storage.postgres.session import Driver

MAX_ROWS = 500  # of one statement
SEPARATOR = "\x1f"
NUL_REFUSED = "PostgreSQL text fields cannot contain NUL (0x00) bytes"
_INSERT = re.compile(r"(INSERT INTO \w+ \([\w, ]+\)) VALUES \((?:\?, ?)*\?\)( ON CONFLICT [^?]+)?")


class ArrayInsert(NamedTuple):
    """The statement before and after the rows: the table with its columns, and the ON CONFLICT clause if any."""

    beginning: str
    end: str


@lru_cache(CACHED_STATEMENTS)
def array_insert(statement: str) -> ArrayInsert | None:
    """Return the parts of an INSERT of one row that only has ``?`` placeholders, or None for any other statement."""
    parts = _INSERT.fullmatch(statement)
    return ArrayInsert(parts[1], parts[2] or "") if parts else None


def statements(insert: ArrayInsert, rows: Sequence[Sequence[Any]], driver: Driver) -> Iterator[bytes]:
    """Yield the statements that insert the rows, for ``MAX_ROWS`` rows at a time; raise ``psycopg.DataError``.

    A column has texts or whole numbers, and may have nulls.
    """
    for start in range(0, len(rows), MAX_ROWS):
        columns = zip(*rows[start : start + MAX_ROWS], strict=True)
        arrays = {f"c{number}": _array(column, driver) for number, column in enumerate(columns)}
        known = {name: array for name, array in arrays.items() if array is not None}
        selected = ", ".join(name if name in known else "NULL" for name in arrays)
        beginning = f"{insert.beginning} SELECT {selected} FROM unnest(".encode()
        end = f") AS given ({', '.join(known)}){insert.end}".encode()
        yield beginning + b", ".join(known.values()) + end


def _array(values: Sequence[Any], driver: Driver) -> bytes | None:
    """Return the expression for an array of a column's values; None if all are null, as they then have no type."""
    first = next((value for value in values if value is not None), None)
    if first is None:
        return None
    if not isinstance(first, str):
        numbers = ",".join("NULL" if value is None else str(int(value)) for value in values)
        return f"'{{{numbers}}}'::bigint[]".encode()
    if None not in values:
        joined = SEPARATOR.join(values)
        if joined and joined.count(SEPARATOR) == len(values) - 1:  # much faster for the server than the other form
            return b"string_to_array(" + _quoted(joined, driver) + b", E'\\x1f')"
    return _quoted("{" + ",".join(map(_element, values)) + "}", driver) + b"::text[]"


def _element(value: str | None) -> str:
    """Return a text as an element of an array: https://www.postgresql.org/docs/15/arrays.html#ARRAYS-IO."""
    if value is None:
        return "NULL"
    escaped = value.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'


def _quoted(text: str, driver: Driver) -> bytes:
    if "\0" in text:  # libpq would end the text there
        raise psycopg.DataError(NUL_REFUSED)
    return b"'" + Escaping(driver.pgconn).escape_string(text.encode()) + b"'"
