"""The tables of mail."""

from alembic import op

revision = "0006"
down_revision = "0005"

STATEMENTS: tuple[str, ...] = (
    """
    CREATE TABLE mail_receivers (
        user_id TEXT NOT NULL,
        username TEXT NOT NULL,
        email TEXT NOT NULL,
        role TEXT NOT NULL,
        active INTEGER NOT NULL,
        PRIMARY KEY (user_id),
        CONSTRAINT active_or_not CHECK (active IN (0, 1))
    ) STRICT
    """,
    """
    CREATE TABLE mail_outbox (
        mail_id TEXT NOT NULL,
        message_id TEXT NOT NULL,
        user_id TEXT NOT NULL,
        business_date TEXT NOT NULL,
        kind TEXT NOT NULL,
        amount_cents INTEGER NOT NULL,
        payload TEXT NOT NULL,
        cause_id TEXT,
        status TEXT NOT NULL,
        held INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        due_at TEXT NOT NULL,
        lease_until TEXT,
        last_error TEXT,
        queued_at TEXT NOT NULL,
        sent_at TEXT,
        sent_to TEXT,
        PRIMARY KEY (mail_id),
        UNIQUE (message_id),
        CONSTRAINT one_of_a_kind_a_person_and_day UNIQUE (user_id, business_date, kind),
        CONSTRAINT known_status CHECK (status IN ('queued', 'sending', 'sent', 'failed')),
        CONSTRAINT held_or_not CHECK (held IN (0, 1)),
        CONSTRAINT known_kind CHECK (kind IN ('payslip', 'summary')),
        CONSTRAINT a_payout_is_positive CHECK (kind <> 'payslip' OR amount_cents > 0),
        CONSTRAINT sending_is_leased CHECK ((status = 'sending') = (lease_until IS NOT NULL)),
        CONSTRAINT sent_at_a_time CHECK ((status = 'sent') = (sent_at IS NOT NULL)),
        CONSTRAINT sent_to_an_address CHECK ((status = 'sent') = (sent_to IS NOT NULL))
    ) STRICT
    """,
    """
    CREATE TABLE mail_summaries (
        business_date TEXT NOT NULL,
        payload TEXT NOT NULL,
        queued INTEGER NOT NULL,
        PRIMARY KEY (business_date),
        CONSTRAINT queued_or_not CHECK (queued IN (0, 1))
    ) STRICT
    """,
    "CREATE INDEX mail_outbox_unsent ON mail_outbox (mail_id) WHERE status <> 'sent'",
)


def upgrade() -> None:
    """Apply the migration."""
    for statement in STATEMENTS:
        op.execute(statement)
