"""The cursor of each hook, and its dead letters."""

from alembic import op

revision = "0009"
down_revision = "0008"

STATEMENTS: tuple[str, ...] = (
    """
    CREATE TABLE bus_hooks (
        hook TEXT NOT NULL,
        position INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        due_at TEXT,
        lease_until TEXT,
        last_error TEXT,
        last_run_at TEXT,
        missing_since TEXT,
        PRIMARY KEY (hook),
        CONSTRAINT not_before_the_log CHECK (position >= 0),
        CONSTRAINT counted CHECK (attempts >= 0)
    ) STRICT
    """,
    """
    CREATE TABLE bus_hook_letters (
        hook TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        state TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        error TEXT NOT NULL,
        since TEXT NOT NULL,
        PRIMARY KEY (hook, sequence),
        CONSTRAINT known_state CHECK (state IN ('dead', 'queued'))
    ) STRICT
    """,
)


def upgrade() -> None:
    """Apply the migration."""
    for statement in STATEMENTS:
        op.execute(statement)
