"""The row floor: the sqlite3 shell copies the rows written by a piece of work, in one transaction."""

import resource
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from popug_cli.storage.sqlite import PRAGMAS


class Cost(NamedTuple):
    """Elapsed seconds and processor seconds."""

    wall_seconds: float
    cpu_seconds: float


@contextmanager
def costing(who: int = resource.RUSAGE_SELF) -> Iterator[Callable[[], Cost]]:
    """Return the processor time used so far by this process or by its children."""

    def cpu() -> float:
        usage = resource.getrusage(who)
        return usage.ru_utime + usage.ru_stime

    wall_since, cpu_since = time.perf_counter(), cpu()
    yield lambda: Cost(time.perf_counter() - wall_since, cpu() - cpu_since)


def copy_database(source: Path, target: Path) -> None:
    """Copy a database that no process has open."""
    with closing(sqlite3.connect(source)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copyfile(source, target)


def row_floor(before: Path, after: Path, *, added: Sequence[str], changed: Sequence[tuple[str, str]]) -> Cost:
    """Return the cost for the shell to turn ``before`` into ``after``, row by row, indexes included.

    ``added`` are tables with new rows, ``changed`` tables with rows that differ, each with its key.
    """
    with closing(sqlite3.connect(after)) as connection:
        statements = [
            *(_update(table, key, _columns(connection, table)) for table, key in changed),
            *(_insert(table, _columns(connection, table)) for table in added),
        ]
    script = [f"{pragma};" for pragma in PRAGMAS]
    script += [f"ATTACH '{after}' AS finished;", "BEGIN IMMEDIATE;", *statements, "COMMIT;"]
    with costing(resource.RUSAGE_CHILDREN) as spent:
        subprocess.run(
            ["sqlite3", "-bail", str(before)], input="\n".join(script), text=True, check=True, stdout=subprocess.DEVNULL
        )
        return spent()


def _columns(connection: sqlite3.Connection, table: str) -> list[tuple[str, bool]]:
    """Return the stored, not generated columns of a table, and whether each belongs to its key."""
    rows = connection.execute(f"PRAGMA table_xinfo({table})").fetchall()
    return [(row[1], bool(row[5])) for row in rows if row[6] == 0]


def _insert(table: str, columns: Sequence[tuple[str, bool]]) -> str:
    names = ", ".join(name for name, _ in columns)
    (first_key, *_) = [name for name, is_key in columns if is_key]
    newer = f"SELECT coalesce(max({first_key}), 0) FROM main.{table}"
    return f"INSERT INTO main.{table} ({names}) SELECT {names} FROM finished.{table} WHERE {first_key} > ({newer});"


def _update(table: str, key: str, columns: Sequence[tuple[str, bool]]) -> str:
    names = [name for name, is_key in columns if not is_key]
    change = ", ".join(f"{name} = done.{name}" for name in names)
    differs = " OR ".join(f"done.{name} IS NOT main.{table}.{name}" for name in names)
    matches = " AND ".join(f"done.{part} = main.{table}.{part}" for part in key.split(","))
    return f"UPDATE main.{table} SET {change} FROM finished.{table} AS done WHERE {matches} AND ({differs});"
