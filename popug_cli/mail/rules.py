"""How often and when a mail is tried, and for how long it is claimed; pure."""

from datetime import date, timedelta

from popug_cli.kernel.backoff import compute_backoff
from popug_cli.kernel.money import format_cents

FIRST_WAIT_SECONDS = 60
MAX_WAIT_SECONDS = 3600
BATCH_SECONDS = 10
SMTP_STEPS = 6
MAX_ERROR_CHARACTERS = 500


def wait_after(attempts: int, jitter: float) -> timedelta:
    """Return how long a mail waits after that many failed attempts: a minute, doubled up to an hour."""
    return compute_backoff(attempts, first_seconds=FIRST_WAIT_SECONDS, max_seconds=MAX_WAIT_SECONDS, jitter=jitter)


def lease_duration(step_seconds: int) -> timedelta:
    """How long a batch is claimed for, where one step of the transport takes up to ``step_seconds``."""
    return timedelta(seconds=BATCH_SECONDS) + lease_margin(step_seconds)


def lease_margin(step_seconds: int) -> timedelta:
    """What must be left of the lease for another mail to be begun: twice what it may take."""
    return 2 * max_send_time(step_seconds)


def max_send_time(step_seconds: int) -> timedelta:
    """The longest that the sending of one mail may take, connecting included."""
    return timedelta(seconds=SMTP_STEPS * step_seconds)


def message_id_of(mail_id: str) -> str:
    """The Message-ID of a mail, the same on every attempt; ``.invalid`` belongs to nobody (RFC 2606)."""
    return f"<{mail_id}@popug.invalid>"


def one_line(error: str) -> str:
    """An error as one line of bounded length."""
    return (" ".join(error.split()) or "no reason given")[:MAX_ERROR_CHARACTERS]


def subject_of(amount_cents: int, business_date: date | str) -> str:
    """The subject of a payout mail."""
    return f"You are paid {format_cents(amount_cents)} for {business_date}"


def summary_subject_of(income_cents: int, business_date: date | str) -> str:
    """The subject of the summary of a day."""
    return f"Closed {business_date}: income {format_cents(income_cents)}"
