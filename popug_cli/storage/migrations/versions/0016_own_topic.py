"""Add to a service's relay its database and how far it has read its own topic back; create its subscriptions."""

from alembic import op

revision = "0016"
down_revision = "0015"

STATEMENTS: tuple[str, ...] = (
    "ALTER TABLE bus_relay ADD COLUMN database_id TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE bus_relay ADD COLUMN reached INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE bus_relay ADD COLUMN own_offset INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE bus_relay ADD COLUMN stranger TEXT",
    "UPDATE bus_relay SET reached = position",
    """
    CREATE TABLE bus_subscriptions (
        origin TEXT NOT NULL,
        name TEXT NOT NULL,
        PRIMARY KEY (origin, name)
    ) STRICT
    """,
)


def upgrade() -> None:
    """Add four columns and create a table."""
    for statement in STATEMENTS:
        op.execute(statement)
