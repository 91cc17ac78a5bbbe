"""Give the log columns for the actor and the time of an event, and publish the public keys of all servers."""

from alembic import op

revision = "0014"
down_revision = "0013"

STATEMENTS: tuple[str, ...] = (
    "ALTER TABLE bus_log ADD COLUMN actor TEXT GENERATED ALWAYS AS (json_extract(envelope, '$.actor')) VIRTUAL",
    "ALTER TABLE bus_log ADD COLUMN time TEXT GENERATED ALWAYS AS (json_extract(envelope, '$.time')) VIRTUAL",
    """
    CREATE TABLE identity_keys (
        kid TEXT NOT NULL,
        public_key TEXT NOT NULL,
        added_at TEXT NOT NULL,
        PRIMARY KEY (kid)
    ) STRICT
    """,
)


def upgrade() -> None:
    """Add two columns and a table."""
    for statement in STATEMENTS:
        op.execute(statement)
