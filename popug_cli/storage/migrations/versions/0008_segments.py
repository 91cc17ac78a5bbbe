"""Sums of every 1,024 entries by person and date, so that past balances are computed from few rows."""

from alembic import op

revision = "0008"
down_revision = "0007"

SUMS = (
    "INSERT INTO billing_segments (employee_id, business_date, segment, change_cents, earned_cents,"
    " first_recorded_at, last_recorded_at)"
    " SELECT employee_id, business_date, (position - 1) / 1024,"
    " sum(CASE WHEN credit_account = employee_id THEN amount_cents ELSE -amount_cents END),"
    " sum(CASE kind WHEN 'reward' THEN amount_cents WHEN 'reward_reversal' THEN -amount_cents ELSE 0 END),"
    " min(recorded_at), max(recorded_at) FROM billing_entries"
)

STATEMENTS: tuple[str, ...] = (
    """
    CREATE TABLE billing_segments (
        employee_id TEXT NOT NULL,
        business_date TEXT NOT NULL,
        segment INTEGER NOT NULL,
        change_cents INTEGER NOT NULL,
        earned_cents INTEGER NOT NULL,
        first_recorded_at TEXT NOT NULL,
        last_recorded_at TEXT NOT NULL,
        PRIMARY KEY (employee_id, business_date, segment),
        FOREIGN KEY (employee_id) REFERENCES billing_accounts (account_id)
    ) STRICT, WITHOUT ROWID
    """,
    f"{SUMS} WHERE position <= (SELECT max(position) / 1024 * 1024 FROM billing_entries) GROUP BY 1, 2, 3",
    f"""
    CREATE TRIGGER billing_entries_segment AFTER INSERT ON billing_entries WHEN NEW.position % 1024 = 0
    BEGIN
        {SUMS} WHERE position BETWEEN NEW.position - 1023 AND NEW.position GROUP BY 1, 2, 3;
    END
    """,
)


def upgrade() -> None:
    """Apply the migration."""
    for statement in STATEMENTS:
        op.execute(statement)
