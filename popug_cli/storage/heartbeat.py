"""When the scheduler was last seen running, and when it last tried to write the daily backup."""

from datetime import datetime

from popug_cli.kernel.clock import from_rfc3339, to_rfc3339
from popug_cli.storage.port import Connection

SCHEDULER = "scheduler"
BACKUP = "backup"


def record(connection: Connection, name: str, now: datetime) -> None:
    """Record ``now`` as the last time of ``SCHEDULER`` or ``BACKUP``."""
    connection.insert_many(
        "INSERT INTO storage_heartbeats (name, seen_at) VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at",
        [(name, to_rfc3339(now))],
    )


def last_recorded(connection: Connection, name: str) -> datetime | None:
    """Return the last recorded time of ``SCHEDULER`` or ``BACKUP``, or None if there is none."""
    seen_at = connection.scalar("SELECT seen_at FROM storage_heartbeats WHERE name = :name", name=name)
    return from_rfc3339(seen_at) if seen_at else None
