"""Stored answers of commands with an idempotency key."""

from alembic import op

revision = "0007"
down_revision = "0006"

STATEMENTS: tuple[str, ...] = (
    """
    CREATE TABLE bus_replies (
        user_id TEXT NOT NULL,
        message TEXT NOT NULL,
        request_key TEXT NOT NULL,
        digest TEXT NOT NULL,
        kept_at TEXT NOT NULL,
        answer TEXT,
        query_message TEXT,
        query TEXT,
        PRIMARY KEY (user_id, message, request_key),
        CONSTRAINT an_answer_or_where_to_find_it CHECK (answer IS NOT NULL OR query IS NOT NULL),
        CONSTRAINT a_query_is_of_a_kind CHECK ((query IS NULL) = (query_message IS NULL))
    ) STRICT
    """,
    "CREATE INDEX bus_replies_kept_at ON bus_replies (kept_at)",
)


def upgrade() -> None:
    """Apply the migration."""
    for statement in STATEMENTS:
        op.execute(statement)
