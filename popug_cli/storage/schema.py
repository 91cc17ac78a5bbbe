"""The schema after each migration: every table, index, trigger and view, for comparison with a database.

``schema.json`` is generated from databases that the migrations make (`python -m tests.generate`).
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("schema.json")
SELECT_OBJECTS = "SELECT type, name, tbl_name, sql FROM sqlite_master"
# ANALYZE creates them; they change no query's result (https://www.sqlite.org/fileformat.html, 2.6).
STATISTICS = frozenset(
    {
        ("table", "sqlite_stat1", "CREATE TABLE sqlite_stat1(tbl,idx,stat)"),
        ("table", "sqlite_stat4", "CREATE TABLE sqlite_stat4(tbl,idx,neq,nlt,ndlt,sample)"),
    }
)
_SPACE = re.compile(r"\s*([(),])\s*|\s+")

ObjectKey = tuple[str, str, str]  # type, name, and the name of its table


def differences(objects: Iterable[Sequence[Any]], version: str) -> Iterator[str]:
    """Yield each difference between the rows of ``SELECT_OBJECTS`` and a fresh database of that version, as text.

    Raise ``KeyError`` for an unknown version.
    """
    rows = normalize_objects(objects)
    expected, found = expected_objects(version), dict(rows)
    for key in sorted(expected.keys() | found.keys()):
        kind, name, _ = key
        if key not in found:
            yield f"the {kind} {name} is missing"
        elif key not in expected:
            yield f"the {kind} {name} is not popug's"
        elif [sql for stored_key, sql in rows if stored_key == key] != [expected[key]]:
            yield f"the {kind} {name} was changed"


def normalize_objects(objects: Iterable[Sequence[Any]]) -> list[tuple[ObjectKey, str]]:
    """Return the key and the normalized SQL of each object, except statistics."""
    rows = [((str(kind), str(name), str(table)), normalize(sql)) for kind, name, table, sql in objects]
    return [(key, sql) for key, sql in rows if (key[0], key[1], sql) not in STATISTICS]


def expected_objects(version: str) -> dict[ObjectKey, str]:
    """Return the objects of a fresh database after the migration of that number; raise ``KeyError`` if unknown."""
    changes = _changes()
    if version not in changes:
        raise KeyError(version)
    objects: dict[ObjectKey, str] = {}
    for number in sorted(changes):
        if number <= version:
            for kind, name, table, sql in changes[number]:
                objects.pop((kind, name, table), None)
                if sql is not None:
                    objects[kind, name, table] = sql
    return objects


def statements_of(prefix: str = "", kinds: Sequence[str] = ("table", "index")) -> list[str]:
    """Return the statements that create the newest schema's objects of these kinds, kind by kind.

    ``prefix`` is the beginning of their tables' names up to ``_``; by default return those of all tables. SQLite's own
    objects are left out.
    """
    objects = expected_objects(max(_changes()))
    return [
        sql
        for kind in kinds
        for (type_, name, table), sql in objects.items()
        if type_ == kind and sql and not name.startswith("sqlite_") and table.startswith(f"{prefix}_" if prefix else "")
    ]


def normalize(sql: str | None) -> str:
    """Return an SQL text with its white space reduced, because its line breaks vary between databases."""
    return _SPACE.sub(lambda match: match[1] or " ", sql or "").strip()


@cache
def _changes() -> dict[str, list[tuple[str, str, str, str | None]]]:
    """Return what each migration creates, or drops (None), as type, name, table and normalized SQL."""
    changes: dict[str, list[tuple[str, str, str, str | None]]] = json.loads(FILE.read_text(encoding="utf-8"))
    return changes
