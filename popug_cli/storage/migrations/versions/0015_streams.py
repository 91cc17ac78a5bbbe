"""Create the tables of a service that shares no database: its relay, its streams and the events that it received."""

from alembic import op

revision = "0015"
down_revision = "0014"

STATEMENTS: tuple[str, ...] = (
    """
    CREATE TABLE bus_received (
        sequence INTEGER NOT NULL,
        origin TEXT NOT NULL,
        origin_position INTEGER NOT NULL,
        PRIMARY KEY (sequence),
        CONSTRAINT once_received UNIQUE (origin, origin_position)
    ) STRICT
    """,
    """
    CREATE TABLE bus_streams (
        origin TEXT NOT NULL,
        log_id TEXT NOT NULL,
        last INTEGER NOT NULL,
        last_id TEXT NOT NULL,
        watermark INTEGER NOT NULL,
        includes TEXT NOT NULL,
        includes_watermark INTEGER NOT NULL,
        gap_since TEXT,
        mangled_count INTEGER NOT NULL,
        other_log_count INTEGER NOT NULL,
        history_change TEXT,
        next_offset INTEGER NOT NULL,
        PRIMARY KEY (origin),
        CONSTRAINT first_has_no_id CHECK ((last = 0) = (last_id = ''))
    ) STRICT
    """,
    """
    CREATE TABLE bus_relay (
        id INTEGER NOT NULL,
        service TEXT NOT NULL,
        log_id TEXT NOT NULL,
        position INTEGER NOT NULL,
        claimed INTEGER NOT NULL,
        PRIMARY KEY (id),
        CONSTRAINT one_row CHECK (id = 1)
    ) STRICT
    """,
)


def upgrade() -> None:
    """Create three tables."""
    for statement in STATEMENTS:
        op.execute(statement)
