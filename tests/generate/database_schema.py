"""Generate ``storage/schema.json``: the objects that each migration creates, changes or drops."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from popug_cli.storage.migrate import SCRIPTS, migrate
from popug_cli.storage.schema import FILE, SELECT_OBJECTS, ObjectKey, normalize_objects

__all__ = ["FILE", "document"]


def document() -> str:
    """Return the text of ``schema.json``."""
    numbers = sorted(path.name[:4] for path in (SCRIPTS / "versions").glob("[0-9]*.py"))
    changes: list[tuple[str, list[tuple[str, str, str, str | None]]]] = []
    before: dict[ObjectKey, str] = {}
    for number in numbers:
        after = objects_after(number)
        changes.append((number, _changes(before, after)))
        before = after
    blocks = (
        f"  {json.dumps(number)}: [\n" + ",\n".join(f"    {json.dumps(each)}" for each in rows) + "\n  ]"
        for number, rows in changes
    )
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def objects_after(number: str) -> dict[ObjectKey, str]:
    """Return the objects of a database that was made by the migrations up to a number."""
    with TemporaryDirectory() as folder:
        database = Path(folder, "popug.db")
        database.touch()
        migrate(database, number)
        with closing(sqlite3.connect(database)) as connection:
            return dict(normalize_objects(connection.execute(SELECT_OBJECTS)))


def _changes(before: dict[ObjectKey, str], after: dict[ObjectKey, str]) -> list[tuple[str, str, str, str | None]]:
    dropped = [(*key, None) for key in sorted(before.keys() - after.keys())]
    created = [(*key, sql) for key, sql in sorted(after.items()) if before.get(key) != sql]
    return [*dropped, *created]
