"""The tables of analytics."""

from alembic import op

revision = "0005"
down_revision = "0004"

STATEMENTS: tuple[str, ...] = (
    """
    CREATE TABLE analytics_people (
        user_id TEXT NOT NULL,
        balance_cents INTEGER NOT NULL,
        PRIMARY KEY (user_id)
    ) STRICT
    """,
    """
    CREATE TABLE analytics_balance_changes (
        business_date TEXT NOT NULL,
        user_id TEXT NOT NULL,
        change_cents INTEGER NOT NULL,
        PRIMARY KEY (business_date, user_id)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE analytics_days (
        business_date TEXT NOT NULL,
        fees_cents INTEGER NOT NULL,
        rewards_cents INTEGER NOT NULL,
        closed INTEGER NOT NULL,
        in_red_count INTEGER,
        PRIMARY KEY (business_date),
        CONSTRAINT closed_or_not CHECK (closed IN (0, 1)),
        CONSTRAINT closed_days_have_figures CHECK ((closed = 1) = (in_red_count IS NOT NULL))
    ) STRICT
    """,
    """
    CREATE TABLE analytics_tasks (
        task_id TEXT NOT NULL,
        number INTEGER,
        title TEXT,
        reward_cents INTEGER,
        completed_at TEXT,
        business_date TEXT,
        PRIMARY KEY (task_id)
    ) STRICT
    """,
    """
    CREATE INDEX analytics_tasks_dearest
        ON analytics_tasks (business_date, reward_cents DESC, completed_at, number)
        WHERE business_date IS NOT NULL
    """,
)


def upgrade() -> None:
    """Apply the migration."""
    for statement in STATEMENTS:
        op.execute(statement)
