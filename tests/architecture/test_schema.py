"""The migrations create exactly the tables that are described."""

import re
import sqlite3
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.compiler import compiles
from sqlmodel import AutoString, SQLModel

PACKAGE = Path(__file__).parents[2] / "popug_cli"
DESCRIPTIONS = sorted(PACKAGE.glob("*/tables.py"))

for description in DESCRIPTIONS:
    import_module(f"popug_cli.{description.parent.name}.tables")

TABLES = sorted(SQLModel.metadata.tables)
Facts = dict[str, Any]


@compiles(AutoString, "sqlite")
def _text(kind: Any, compiler: Any, **options: Any) -> str:
    """Return a column's type; a STRICT table has TEXT where SQLModel says VARCHAR."""
    return "TEXT"


def described(table: str, file: Path) -> Path:
    """Return a file with one table, made from its description alone."""
    engine = create_engine(f"sqlite:///{file}")
    SQLModel.metadata.tables[table].create(engine)
    engine.dispose()
    return file


def facts_of(file: Path, table: str) -> Facts:
    """Return every relevant fact of a table, each under a descriptive name."""
    with closing(sqlite3.connect(file)) as database:
        facts: Facts = {}
        for kind, without_rowid, strict in database.execute(
            "SELECT type, wr, strict FROM pragma_table_list WHERE name = ?", (table,)
        ):
            facts[f"{kind}"] = {"without rowid": bool(without_rowid), "strict": bool(strict)}
        facts |= _columns(database, table) | _indexes(database, table) | _references(database, table)
        return facts | _details(database, table)


def _columns(database: sqlite3.Connection, table: str) -> Facts:
    rows = database.execute(
        'SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?)', (table,)
    ).fetchall()
    in_key = {name for name, _, _, _, key, _ in rows if key}
    return {
        f"column {name}": {
            "type": kind,
            "not null": bool(not_null) or name in in_key,
            "default": default,
            "place in key": key,
            "generated": {0: "", 2: "virtual", 3: "stored"}[hidden],
        }
        for name, kind, not_null, default, key, hidden in rows
    }


def _indexes(database: sqlite3.Connection, table: str) -> Facts:
    facts: Facts = {}
    for name, unique, origin, partial in database.execute(
        'SELECT name, "unique", origin, partial FROM pragma_index_list(?)', (table,)
    ).fetchall():
        columns = database.execute(
            'SELECT name, "desc", coll FROM pragma_index_xinfo(?) WHERE key ORDER BY seqno', (name,)
        ).fetchall()
        sql = _sql(database, name)
        label = f"index {name}" if origin == "c" else f"key {[column for column, _, _ in columns]}"
        facts[label] = {"unique": bool(unique), "columns": columns, "where": _where(sql) if partial else ""}
        if any(column is None for column, _, _ in columns):
            facts[label]["expression"] = _plain(sql.partition("(")[2])
    return facts


def _references(database: sqlite3.Connection, table: str) -> Facts:
    rows = database.execute(
        'SELECT "table", "from", "to", on_update, on_delete FROM pragma_foreign_key_list(?)', (table,)
    )
    return {f"reference from {source}": (other, target, *rest) for other, source, target, *rest in rows}


def _details(database: sqlite3.Connection, table: str) -> Facts:
    """Return the facts that no pragma reports: checks, expressions of generated columns, autoincrement."""
    sql = _sql(database, table)
    checks = [_plain(check) for check in _bodies(sql, "CHECK")]
    generated = [_plain(expression) for expression in _bodies(sql, "AS")]
    return {"checks": sorted(checks), "generated as": generated, "autoincrement": "AUTOINCREMENT" in sql.upper()}


def _bodies(sql: str, keyword: str) -> list[str]:
    """Return the text in the parentheses after each ``keyword``."""
    bodies = []
    for match in re.finditer(rf"\b{keyword}\s*\(", sql, re.IGNORECASE):
        depth, start = 1, match.end()
        end = start
        while depth:
            depth += {"(": 1, ")": -1}.get(sql[end], 0)
            end += 1
        bodies.append(sql[start : end - 1])
    return bodies


def _sql(database: sqlite3.Connection, name: str) -> str:
    """Return the statement that made a table or index; None for an implicit or missing one."""
    row = database.execute("SELECT sql FROM sqlite_master WHERE name = ?", (name,)).fetchone()
    return str(row[0] or "") if row else ""


def _where(sql: str) -> str:
    return _plain(re.split(r"\bWHERE\b", sql, maxsplit=1, flags=re.IGNORECASE)[1])


def _plain(sql: str) -> str:
    return re.sub(r"\s+|\"", "", sql)


def differences(in_migrations: Facts, in_descriptions: Facts) -> list[str]:
    return [
        f"{name}: the migrations have {in_migrations.get(name)}, tables.py has {in_descriptions.get(name)}"
        for name in sorted(in_migrations.keys() | in_descriptions.keys())
        if in_migrations.get(name) != in_descriptions.get(name)
    ]


def test_migrations_and_descriptions_have_the_same_tables(migrated: Path) -> None:
    with closing(sqlite3.connect(migrated)) as database:
        rows = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    assert {name for (name,) in rows} - {"alembic_version", "sqlite_sequence"} == set(TABLES)


@pytest.mark.parametrize("table", TABLES)
def test_table_is_migrated_as_it_is_described(table: str, migrated: Path, tmp_path: Path) -> None:
    assert differences(facts_of(migrated, table), facts_of(described(table, tmp_path / "popug.db"), table)) == []


def test_difference_is_named(tmp_path: Path) -> None:
    found = []
    for name, sql in {"a": "x INTEGER NOT NULL CHECK (x > 0)", "b": "x INTEGER CHECK (x > 1)"}.items():
        with closing(sqlite3.connect(tmp_path / name)) as database:
            database.execute(f"CREATE TABLE things ({sql}) STRICT")
        found.append(facts_of(tmp_path / name, "things"))
    named = [line.partition(":")[0] for line in differences(*found)]
    assert named == ["checks", "column x"]
