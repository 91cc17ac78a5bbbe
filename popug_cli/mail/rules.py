"""Mail rules (pure functions): back-off, lease duration, Message-ID, subjects."""

from datetime import date, timedelta

from popug_cli.kernel.backoff import compute_backoff
from popug_cli.kernel.money import format_cents

FIRST_WAIT_SECONDS = 60
MAX_WAIT_SECONDS = 3600
BATCH_SECONDS = 10
SMTP_STEPS = 6
MAX_ERROR_CHARACTERS = 500


def wait_after(attempts: int, jitter: float) -> timedelta:
    """Return the back-off after `attempts` failures: from 60 s, doubled up to an hour; `jitter` cuts up to half."""
    return compute_backoff(attempts, first_seconds=FIRST_WAIT_SECONDS, max_seconds=MAX_WAIT_SECONDS, jitter=jitter)


def lease_duration(step_seconds: int) -> timedelta:
    """Return the lease of a batch if one step of the transport takes up to `step_seconds`."""
    return timedelta(seconds=BATCH_SECONDS) + lease_margin(step_seconds)


def lease_margin(step_seconds: int) -> timedelta:
    """Return how much of the lease must be left to start another mail: twice its maximal send time."""
    return 2 * max_send_time(step_seconds)


def max_send_time(step_seconds: int) -> timedelta:
    """Return the maximal time to send one mail, including the connection."""
    return timedelta(seconds=SMTP_STEPS * step_seconds)


def message_id_of(mail_id: str) -> str:
    """Return the Message-ID of a mail, the same on every attempt. The domain ``.invalid`` is reserved (RFC 2606)."""
    return f"<{mail_id}@popug.invalid>"


def one_line(error: str) -> str:
    """Shorten an error to one line of bounded length."""
    return (" ".join(error.split()) or "no reason given")[:MAX_ERROR_CHARACTERS]


def subject_of(amount_cents: int, business_date: date | str) -> str:
    """Return the subject of a payslip."""
    return f"You are paid {format_cents(amount_cents)} for {business_date}"


def summary_subject_of(income_cents: int, business_date: date | str) -> str:
    """Return the subject of a daily summary."""
    return f"Closed {business_date}: income {format_cents(income_cents)}"
