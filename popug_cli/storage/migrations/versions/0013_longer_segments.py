"""Sum up 8,192 entries instead of 1,024: with many people, a short segment had nearly a row for each entry."""

from alembic import op

revision = "0013"
down_revision = "0012"

SUMS = (
    "INSERT INTO billing_segments (employee_id, business_date, segment, change_cents, earned_cents,"
    " first_recorded_at, last_recorded_at)"
    " SELECT employee_id, business_date, (position - 1) / 8192,"
    " sum(CASE WHEN credit_account = employee_id THEN amount_cents ELSE -amount_cents END),"
    " sum(CASE kind WHEN 'reward' THEN amount_cents WHEN 'reward_reversal' THEN -amount_cents ELSE 0 END),"
    " min(recorded_at), max(recorded_at) FROM billing_entries"
)

STATEMENTS: tuple[str, ...] = (
    "DROP TRIGGER billing_entries_segment",
    "DELETE FROM billing_segments",
    f"{SUMS} WHERE position <= (SELECT max(position) / 8192 * 8192 FROM billing_entries) GROUP BY 1, 2, 3",
    f"""
    CREATE TRIGGER billing_entries_segment AFTER INSERT ON billing_entries WHEN NEW.position % 8192 = 0
    BEGIN
        {SUMS} WHERE position BETWEEN NEW.position - 8191 AND NEW.position GROUP BY 1, 2, 3;
    END
    """,
)


def upgrade() -> None:
    """Apply the migration."""
    for statement in STATEMENTS:
        op.execute(statement)
