"""The pause of a service's replicators: a row that each of them reads under the write lock before it takes records.

A backup of all services pauses them until it has its five snapshots. So what a service has received is in its
publisher's snapshot. The row ends by itself, in case the process that wrote it is killed.
"""

from datetime import datetime

from popug_cli.kernel.clock import from_rfc3339, to_rfc3339
from popug_cli.storage.port import Connection

SELECT_PAUSE = "SELECT pause_id, ends_at FROM storage_cluster_pause"
UPSERT_PAUSE = (
    "INSERT INTO storage_cluster_pause (id, pause_id, ends_at) VALUES (1, ?, ?)"
    " ON CONFLICT (id) DO UPDATE SET pause_id = excluded.pause_id, ends_at = excluded.ends_at"
)


def current(connection: Connection, now: datetime) -> str | None:
    """Return the id of the pause that lasts at an instant, or None."""
    row = connection.select_one(SELECT_PAUSE)
    return row[0] if row is not None and now < from_rfc3339(row[1]) else None


def begin(connection: Connection, pause_id: str, ends_at: datetime) -> None:
    """Pause the replicators: each of them reads this row when it has the write lock."""
    connection.execute(UPSERT_PAUSE, pause_id, to_rfc3339(ends_at))


def end(connection: Connection, pause_id: str) -> None:
    """End a pause, unless another one has begun since."""
    connection.execute("DELETE FROM storage_cluster_pause WHERE pause_id = ?", pause_id)


def end_any(connection: Connection) -> None:
    """End whatever pause the copy of a database has."""
    connection.execute("DELETE FROM storage_cluster_pause")
