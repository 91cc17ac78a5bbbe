"""A module's statements touch its own tables only; the audit alone may read all.

The tests read the source: every string that is a statement, a part of one, or a name alone.
"""

import ast
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "popug_cli"
MAY_READ_ALL = {"audit"}
COPIES_AND_GUARDS_ALL = PACKAGE / "storage" / "postgres"
OWNERS = ("identity", "tasks", "billing", "analytics", "mail", "bus", "storage")
NOBODYS = {"alembic_version", "sqlite_sequence", "sqlite_stat1", "sqlite_stat4"}
STATEMENT = re.compile(r"\b(SELECT|INSERT|UPDATE|DELETE|REPLACE|WITH|CREATE|DROP|ALTER|FROM|JOIN|INTO)\b")

SOURCES = [
    (folder, file)
    for folder in sorted({path.name for path in PACKAGE.iterdir() if path.is_dir()} - MAY_READ_ALL)
    for file in sorted((PACKAGE / folder).rglob("*.py"))
    if "migrations" not in file.parts and file.parent != COPIES_AND_GUARDS_ALL
]


def tables(file: Path) -> set[str]:
    with closing(sqlite3.connect(file)) as database:
        names = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return names - NOBODYS


def foreign_tables(source: str, owner: str, known: set[str]) -> Iterator[str]:
    """Yield the tables of other modules that a source names: in a statement, in a fragment, or as a whole string."""
    for text in strings(ast.parse(source)):
        words = set(re.findall(r"[a-z_]+", text))
        for table in sorted(words & known):
            if not table.startswith(f"{owner}_") and (STATEMENT.search(text) or text.strip() == table):
                yield table


def strings(tree: ast.Module) -> Iterator[str]:
    """Yield every string of a source except docstrings; an f-string as one, without its values."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef
    inside = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part for part in node.values if isinstance(part, ast.Constant)]
            inside |= {id(part) for part in parts}
            yield " ".join(str(part.value) for part in parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.value


@pytest.mark.parametrize(("owner", "file"), SOURCES, ids=[str(file.relative_to(PACKAGE)) for _, file in SOURCES])
def test_statements_touch_the_tables_of_their_own_module_only(owner: str, file: Path, migrated: Path) -> None:
    assert [*foreign_tables(file.read_text(), owner, tables(migrated))] == []


def test_every_table_has_an_owner(migrated: Path) -> None:
    orphans = {table for table in tables(migrated) if not table.startswith(tuple(f"{owner}_" for owner in OWNERS))}
    assert orphans == set()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('text("SELECT id FROM tasks_tasks")', []),
        ('text("SELECT id FROM billing_entries")', ["billing_entries"]),
        ('text(f"SELECT {x} FROM tasks_tasks JOIN bus_log USING (id)")', ["bus_log"]),
        ('__tablename__ = "billing_entries"', ["billing_entries"]),
        ('def f():\n    """Like billing_entries FROM elsewhere."""', []),
        ('raise Conflict("billing_entries", "see billing_entries")', ["billing_entries"]),
    ],
)
def test_statement_on_the_table_of_another_is_found(source: str, found: list[str]) -> None:
    assert [*foreign_tables(source, "tasks", {"tasks_tasks", "billing_entries", "bus_log"})] == found
