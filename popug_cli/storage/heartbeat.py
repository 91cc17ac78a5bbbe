"""When something that runs by itself was last seen running."""

from datetime import datetime

from sqlalchemy import Connection

from popug_cli.kernel.clock import parse_stamp, stamp
from popug_cli.storage.engine import insert_many, scalar

SCHEDULER = "scheduler"
BACKUP = "backup"


def beat(connection: Connection, name: str, now: datetime) -> None:
    """Remember that it runs."""
    insert_many(
        connection,
        "INSERT INTO storage_heartbeats (name, seen_at) VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at",
        [(name, stamp(now))],
    )


def last_beat(connection: Connection, name: str) -> datetime | None:
    """When it was last seen running; None for what never ran."""
    found = scalar(connection, "SELECT seen_at FROM storage_heartbeats WHERE name = :name", name=name)
    return parse_stamp(found) if found else None
