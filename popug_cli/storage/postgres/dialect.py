"""Translate the statements of popug, which are written for SQLite, for psycopg."""

import re
from collections.abc import Mapping
from functools import lru_cache

from popug_cli.storage.port import Values

CACHED_STATEMENTS = 4_096
MAX_CHARACTERS, NUMBER_CHARACTERS = 2_000, 8
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


def is_long(statement: str, values: Values) -> bool:
    """Return whether libpq may send a statement with its values in several parts, in the extended query protocol.

    It collects up to 8,192 bytes before it sends. A character has at most 4 bytes, and 10 bytes describe a value.
    """
    given = values.values() if isinstance(values, Mapping) else values
    characters = sum(3 + len(value) if isinstance(value, str) else NUMBER_CHARACTERS for value in given)
    return bool(values) and len(statement) + characters > MAX_CHARACTERS
