"""The tables of mail."""

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel


class ReceiverRow(SQLModel, table=True):
    """The current address, name, role and activity of a user."""

    __tablename__ = "mail_receivers"
    __table_args__ = (CheckConstraint("active IN (0, 1)", name="active_or_not"), {"sqlite_strict": True})

    user_id: str = Field(primary_key=True)
    username: str
    email: str
    role: str
    active: int


class OutboxRow(SQLModel, table=True):
    """A mail: a payslip, whose `payload` is the data of its ``payout_made``, or a day's summary.

    `cause_id` is the ``payout_made`` event of a payslip; `held` prevents sending until the mail is released.
    """

    __tablename__ = "mail_outbox"
    __table_args__ = (
        UniqueConstraint("user_id", "business_date", "kind", name="one_of_a_kind_a_person_and_day"),
        CheckConstraint("status IN ('queued', 'sending', 'sent', 'failed')", name="known_status"),
        CheckConstraint("held IN (0, 1)", name="held_or_not"),
        CheckConstraint("kind IN ('payslip', 'summary')", name="known_kind"),
        CheckConstraint("kind <> 'payslip' OR amount_cents > 0", name="a_payout_is_positive"),
        CheckConstraint("(status = 'sending') = (lease_until IS NOT NULL)", name="sending_is_leased"),
        CheckConstraint("(status = 'sent') = (sent_at IS NOT NULL)", name="sent_at_a_time"),
        CheckConstraint("(status = 'sent') = (sent_to IS NOT NULL)", name="sent_to_an_address"),
        CheckConstraint("told IN (0, 1)", name="told_or_not"),
        CheckConstraint("told = 0 OR status = 'sent'", name="told_when_sent"),
        Index("mail_outbox_untold", "mail_id", sqlite_where=text("told = 0")),
        {"sqlite_strict": True},
    )

    mail_id: str = Field(primary_key=True)
    message_id: str = Field(unique=True)
    user_id: str
    business_date: str
    kind: str
    amount_cents: int
    payload: str
    cause_id: str | None
    status: str
    held: int
    attempts: int
    due_at: str
    lease_until: str | None
    last_error: str | None
    queued_at: str
    sent_at: str | None
    sent_to: str | None
    told: int = Field(sa_column_kwargs={"server_default": text("0")})  # 1 once its mail_sent event is published


class SummaryRow(SQLModel, table=True):
    """A closed day to summarize for management; `payload` is the data of its ``day_closed``."""

    __tablename__ = "mail_summaries"
    __table_args__ = (CheckConstraint("queued IN (0, 1)", name="queued_or_not"), {"sqlite_strict": True})

    business_date: str = Field(primary_key=True)
    payload: str
    queued: int
