"""Whether the ``mail_sent`` event of a mail is published, so that many are published at once."""

from alembic import op

revision = "0010"
down_revision = "0009"

STATEMENTS: tuple[str, ...] = (
    """
    ALTER TABLE mail_outbox ADD COLUMN told INTEGER NOT NULL DEFAULT 0
        CONSTRAINT told_or_not CHECK (told IN (0, 1)) CONSTRAINT told_when_sent CHECK (told = 0 OR status = 'sent')
    """,
    "UPDATE mail_outbox SET told = 1 WHERE status = 'sent'",
    "DROP INDEX mail_outbox_unsent",
    "CREATE INDEX mail_outbox_untold ON mail_outbox (mail_id) WHERE told = 0",
)


def upgrade() -> None:
    """Apply the migration."""
    for statement in STATEMENTS:
        op.execute(statement)
