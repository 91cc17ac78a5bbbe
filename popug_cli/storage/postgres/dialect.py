"""Translate the statements of popug, which are written for SQLite, for psycopg."""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

CACHED_STATEMENTS = 4_096
_LITERAL = re.compile(r"('(?:[^']|'')*')")
_NAMED_PLACEHOLDER = re.compile(r"(?<![:\w]):([A-Za-z_]\w*)")
_JSON_ARRAY = re.compile(r"SELECT value FROM json_each\((:\w+)\)")
_CAST_TO_BYTES = re.compile(r"CAST\(((?:(?! AS ).)+) AS BLOB\)")


@lru_cache(CACHED_STATEMENTS)
def translate(statement: str, *, has_values: bool) -> str:
    """Return a statement with psycopg's placeholders: ``%s`` for ``?``, ``%(name)s`` for ``:name``.

    Text in quotes stays as it is. psycopg reads ``%%`` as ``%`` only in a statement that has values. A cast to bytes
    and the rows of a JSON array are written as PostgreSQL has them.
    """
    statement = _JSON_ARRAY.sub(r"SELECT jsonb_array_elements_text(CAST(\1 AS jsonb))", statement)
    parts = _LITERAL.split(_CAST_TO_BYTES.sub(r"convert_to(\1, 'UTF8')", statement))
    if not has_values:
        return "".join(parts)
    for index, part in enumerate(parts):
        escaped = part.replace("%", "%%")
        is_literal = index % 2 == 1
        parts[index] = escaped if is_literal else _NAMED_PLACEHOLDER.sub(r"%(\1)s", escaped.replace("?", "%s"))
    return "".join(parts)


_PLAIN_INSERT = re.compile(r"INSERT INTO (\w+) \(([\w, ]+)\) VALUES \((?:\?, ?)*\?\)")


@lru_cache(CACHED_STATEMENTS)
def copy_statement(statement: str) -> str | None:
    """Return the COPY for an INSERT of one row that only has ``?`` placeholders, or None for any other statement."""
    parts = _PLAIN_INSERT.fullmatch(statement)
    return f"COPY {parts[1]} ({parts[2]}) FROM STDIN" if parts else None


def copy_lines(rows: Iterable[Sequence[Any]]) -> bytes:
    """Return rows in the text format of COPY: https://www.postgresql.org/docs/15/sql-copy.html#id-1.9.3.55.9.2."""
    return "".join("\t".join(map(_field, row)) + "\n" for row in rows).encode()


def _field(value: Any) -> str:
    if not isinstance(value, str):
        return r"\N" if value is None else str(int(value))
    text = value.replace("\\", r"\\")
    return text.replace("\t", r"\t").replace("\n", r"\n").replace("\r", r"\r")
