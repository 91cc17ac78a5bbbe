"""Create the state of a cluster: whether a database is being filled, serves, or has moved; and pauses for a backup."""

from alembic import op

revision = "0019"
down_revision = "0018"

STATEMENTS: tuple[str, ...] = (
    """
    CREATE TABLE storage_cluster_state (
        id INTEGER NOT NULL,
        cluster_id TEXT NOT NULL,
        state TEXT NOT NULL,
        gateway TEXT NOT NULL,
        changed_at TEXT NOT NULL,
        timeline INTEGER NOT NULL,
        PRIMARY KEY (id),
        CONSTRAINT one_row CHECK (id = 1),
        CONSTRAINT known_state CHECK (state IN ('loading', 'restoring', 'active', 'moved'))
    ) STRICT
    """,
    """
    CREATE TABLE storage_cluster_pause (
        id INTEGER NOT NULL,
        pause_id TEXT NOT NULL,
        ends_at TEXT NOT NULL,
        PRIMARY KEY (id),
        CONSTRAINT one_row CHECK (id = 1)
    ) STRICT
    """,
)


def upgrade() -> None:
    """Create two tables."""
    for statement in STATEMENTS:
        op.execute(statement)
