"""A quick look at a company for completion: by plain SQLite, read-only, without waiting, and no more than one may see.

Whoever calls this can read the file; the token says whose eyes to see it with, and is looked up, not proved again.
"""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime

from popug_cli.identity import glance as people
from popug_cli.kernel.clock import stamp
from popug_cli.kernel.home import Home
from popug_cli.messages.base import Role
from popug_cli.tasks import glance as tasks

WAIT_SECONDS = 0.2
Found = list[tuple[str, str]]


def look(home: Home, token: str, kind: str, start: str) -> Found:
    """Words of a kind that begin so, each with what it means; nothing where anything is missing."""
    if not home.database.exists():
        return []
    address = f"{home.database.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=WAIT_SECONDS)) as database:
            viewer = people.holder(database, token, stamp(datetime.now(UTC)))
            return _find(database, viewer, kind, start) if viewer else []
    except sqlite3.Error:
        return []


def _find(database: sqlite3.Connection, viewer: people.Viewer, kind: str, start: str) -> Found:
    if kind == "own-task":
        return tasks.open_tasks(database, viewer.user_id, start)
    if kind == "task":
        return tasks.all_tasks(database, start)
    if kind == "shuffle":
        return tasks.shuffles(database, start)
    if kind == "person" and viewer.role == Role.ADMIN:
        return people.everybody(database, start)
    if kind in {"person", "player"}:
        return tasks.players(database, start)
    return []
