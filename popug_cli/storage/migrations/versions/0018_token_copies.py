"""Create what a service needs to verify tokens by itself: a deny list, and how new its copies are."""

from alembic import op

revision = "0018"
down_revision = "0017"

STATEMENTS: tuple[str, ...] = (
    "ALTER TABLE bus_streams ADD COLUMN stamped_at TEXT",
    """
    CREATE TABLE identity_revoked_tokens (
        token_id TEXT NOT NULL,
        expires_at TEXT NOT NULL,
        PRIMARY KEY (token_id)
    ) STRICT
    """,
    "CREATE INDEX identity_revoked_tokens_expiry ON identity_revoked_tokens (expires_at)",
    """
    CREATE TABLE identity_token_owners (
        user_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        void_below INTEGER NOT NULL,
        expires_at TEXT NOT NULL,
        PRIMARY KEY (user_id, kind),
        CONSTRAINT known_kind CHECK (kind IN ('session', 'machine')),
        CONSTRAINT a_position CHECK (void_below >= 0)
    ) STRICT
    """,
    "CREATE INDEX identity_token_owners_expiry ON identity_token_owners (expires_at)",
    """
    CREATE TABLE identity_watermark (
        id INTEGER NOT NULL,
        position INTEGER NOT NULL,
        stamped_at TEXT NOT NULL,
        PRIMARY KEY (id),
        CONSTRAINT one_row CHECK (id = 1)
    ) STRICT
    """,
)


def upgrade() -> None:
    """Add a column and three tables."""
    for statement in STATEMENTS:
        op.execute(statement)
