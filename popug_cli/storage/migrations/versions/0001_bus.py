"""The home, the log and the consumers' cursors."""

from alembic import op

revision = "0001"
down_revision = None

STATEMENTS = (
    """
    CREATE TABLE storage_home (
        id INTEGER NOT NULL,
        home_id TEXT NOT NULL,
        time_zone TEXT NOT NULL,
        founded_at TEXT NOT NULL,
        PRIMARY KEY (id),
        CONSTRAINT one_row CHECK (id = 1)
    ) STRICT
    """,
    """
    CREATE TABLE storage_heartbeats (
        name TEXT NOT NULL,
        seen_at TEXT NOT NULL,
        PRIMARY KEY (name)
    ) STRICT
    """,
    """
    CREATE TABLE bus_log (
        sequence INTEGER PRIMARY KEY,
        envelope TEXT NOT NULL,
        type TEXT GENERATED ALWAYS AS (json_extract(envelope, '$.type')) STORED,
        id TEXT GENERATED ALWAYS AS (json_extract(envelope, '$.id')) VIRTUAL,
        subject TEXT GENERATED ALWAYS AS (json_extract(envelope, '$.subject')) VIRTUAL
    ) STRICT
    """,
    "CREATE UNIQUE INDEX bus_log_id ON bus_log (id)",
    "CREATE INDEX bus_log_subject ON bus_log (subject)",
    """
    CREATE TRIGGER bus_log_no_update BEFORE UPDATE ON bus_log
    BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END
    """,
    """
    CREATE TRIGGER bus_log_no_delete BEFORE DELETE ON bus_log
    BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END
    """,
    """
    CREATE TABLE bus_links (
        last_sequence INTEGER PRIMARY KEY,
        first_sequence INTEGER NOT NULL UNIQUE,
        hash TEXT NOT NULL,
        CONSTRAINT a_run CHECK (first_sequence <= last_sequence)
    ) STRICT
    """,
    """
    CREATE TABLE bus_cursors (
        consumer TEXT NOT NULL PRIMARY KEY,
        position INTEGER NOT NULL,
        CONSTRAINT not_before_the_log CHECK (position >= 0)
    ) STRICT
    """,
    """
    CREATE TABLE bus_inbox (
        consumer TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        PRIMARY KEY (consumer, sequence)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE bus_set_aside (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        consumer TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        subject TEXT NOT NULL,
        state TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        due_at TEXT,
        error TEXT NOT NULL,
        since TEXT NOT NULL,
        CONSTRAINT once UNIQUE (consumer, sequence),
        CONSTRAINT known_state CHECK (state IN ('retrying', 'waiting', 'dead', 'dropped')),
        CONSTRAINT retries_are_due CHECK ((state = 'retrying') = (due_at IS NOT NULL))
    ) STRICT
    """,
    "CREATE INDEX bus_set_aside_key ON bus_set_aside (consumer, subject, sequence)",
)


def upgrade() -> None:
    """Apply the migration."""
    for statement in STATEMENTS:
        op.execute(statement)
