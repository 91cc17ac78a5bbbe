"""The tables of identity."""

from alembic import op

revision = "0002"
down_revision = "0001"

STATEMENTS: tuple[str, ...] = (
    """
    CREATE TABLE identity_users (
        user_id TEXT NOT NULL,
        username TEXT NOT NULL,
        email TEXT NOT NULL,
        email_key TEXT NOT NULL,
        role TEXT NOT NULL,
        active INTEGER NOT NULL,
        password_hash TEXT,
        registered_at TEXT NOT NULL,
        PRIMARY KEY (user_id),
        CONSTRAINT known_role CHECK (role IN ('admin', 'manager', 'accountant', 'worker')),
        CONSTRAINT active_or_not CHECK (active IN (0, 1)),
        CONSTRAINT lower_cased CHECK (username = lower(username)),
        UNIQUE (username),
        UNIQUE (email_key)
    ) STRICT
    """,
    """
    CREATE TRIGGER identity_users_no_delete BEFORE DELETE ON identity_users
    BEGIN SELECT RAISE(ABORT, 'people are never deleted'); END
    """,
    """
    CREATE TABLE identity_tokens (
        token_id TEXT NOT NULL,
        user_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        scope TEXT,
        issued_at TEXT NOT NULL,
        expires_at TEXT NOT NULL,
        revoked_at TEXT,
        last_used_at TEXT,
        PRIMARY KEY (token_id),
        CONSTRAINT known_kind CHECK (kind IN ('session', 'machine')),
        FOREIGN KEY (user_id) REFERENCES identity_users (user_id)
    ) STRICT
    """,
    "CREATE INDEX identity_tokens_user ON identity_tokens (user_id)",
    """
    CREATE TABLE identity_throttle (
        username TEXT NOT NULL,
        failures INTEGER NOT NULL,
        locked_until TEXT NOT NULL,
        PRIMARY KEY (username),
        CONSTRAINT failed_once CHECK (failures > 0)
    ) STRICT
    """,
)


def upgrade() -> None:
    """Apply the migration."""
    for statement in STATEMENTS:
        op.execute(statement)
