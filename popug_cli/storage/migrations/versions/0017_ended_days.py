"""Create the tables of ended days: tasks has ended every day that billing has closed."""

from alembic import op

revision = "0017"
down_revision = "0016"

STATEMENTS: tuple[str, ...] = (
    """
    CREATE TABLE tasks_company (
        id INTEGER NOT NULL,
        first_day TEXT NOT NULL,
        PRIMARY KEY (id),
        CONSTRAINT one_row CHECK (id = 1)
    ) STRICT
    """,
    """
    CREATE TABLE tasks_ended_days (
        business_date TEXT NOT NULL,
        event_id TEXT,
        ended_at TEXT NOT NULL,
        PRIMARY KEY (business_date),
        UNIQUE (event_id)
    ) STRICT
    """,
    """
    CREATE TABLE billing_ended_days (
        business_date TEXT NOT NULL,
        recorded_at TEXT NOT NULL,
        PRIMARY KEY (business_date)
    ) STRICT
    """,
    "INSERT INTO tasks_company (id, first_day) SELECT id, first_day FROM billing_company",
    "INSERT INTO tasks_ended_days (business_date, ended_at) SELECT business_date, closed_at FROM billing_days"
    " ORDER BY business_date DESC LIMIT 1",
)


def upgrade() -> None:
    """Create three tables, and store the company's first day and its last closed day as those of tasks."""
    for statement in STATEMENTS:
        op.execute(statement)
