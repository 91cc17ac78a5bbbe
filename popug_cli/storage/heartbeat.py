"""When each background process was last seen running."""

from datetime import datetime

from sqlalchemy import Connection

from popug_cli.kernel.clock import from_rfc3339, to_rfc3339
from popug_cli.storage.engine import insert_many, scalar

SCHEDULER = "scheduler"
BACKUP = "backup"


def record(connection: Connection, name: str, now: datetime) -> None:
    """Record that a background process is running at ``now``."""
    insert_many(
        connection,
        "INSERT INTO storage_heartbeats (name, seen_at) VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at",
        [(name, to_rfc3339(now))],
    )


def last_recorded(connection: Connection, name: str) -> datetime | None:
    """Return when a background process was last seen running, or None if it never ran."""
    seen_at = scalar(connection, "SELECT seen_at FROM storage_heartbeats WHERE name = :name", name=name)
    return from_rfc3339(seen_at) if seen_at else None
