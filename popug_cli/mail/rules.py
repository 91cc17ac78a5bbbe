"""Mail rules (pure functions): back-off, lease duration, the cause of a rejection, Message-ID, subjects."""

import re
from datetime import date, timedelta
from enum import Enum

from popug_cli.kernel.backoff import compute_backoff
from popug_cli.kernel.money import format_cents

FIRST_WAIT_SECONDS = 60
MAX_WAIT_SECONDS = 3600
BATCH_SECONDS = 10
SMTP_STEPS = 6
MAX_ERROR_CHARACTERS = 500
MAX_REFUSALS_IN_A_ROW = 10
SETUP_CODES = frozenset({500, 502, 503, 504, 521, 530, 534, 535, 538, 555})
_IN_BRACKETS = re.compile(r"<[^>]*>")
_SENDER_NAMED = re.compile(
    r"\b(?:helo|ehlo)\b|authentication (?:is )?required|\brelay(?:ing)? (?:access )?(?:is )?(?:denied|not|prohibited)\b"
    r"|\bsender\W+(?:\w+\W+){0,2}?(?:reject\w*|verif\w*|invalid|unknown|denied|blocked|does not|not found|not allowed)",
    re.IGNORECASE,
)
_RECEIVER = re.compile(
    r"\b5\.1\.(?:[12346]|10)\b|\b5\.2\.\d|no such|user unknown|unknown (?:user|recipient)|does not exist"
    r"|recipient address rejected: (?:need fully|undeliverable|domain not found)",
    re.IGNORECASE,
)
_SETUP = re.compile(
    r"\b5\.1\.[78]\b|\b5\.5\.\d|\b5\.7\.(?:[89]|1[0-3]|2\d)\b|\b(?:helo|ehlo|relay\w*|sender|rcpthosts|starttls"
    r"|spf|dkim|dmarc|client host)\b|authenticat",
    re.IGNORECASE,
)


class Blame(Enum):
    """The cause of a permanent rejection."""

    RECEIVER = "the receiver's address or mailbox"
    SETUP = "the sender's set-up: the name in EHLO, the login, the sender or the relay"
    UNCLEAR = "the reply does not say"


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


def blame_of(reply: str) -> Blame:
    """Return the cause of a permanent rejection, by enhanced code (RFC 3463), words and reply code.

    An address in the reply does not count, because it may contain any word. Words that name the sender's set-up count
    more than a code of the receiver's address, because a server that verifies the sender quotes such codes.
    """
    words = _IN_BRACKETS.sub("", reply)
    if _SENDER_NAMED.search(words):
        return Blame.SETUP
    if _RECEIVER.search(words):
        return Blame.RECEIVER
    return Blame.SETUP if _SETUP.search(words) or int(words[:3]) in SETUP_CODES else Blame.UNCLEAR


def message_id_of(mail_id: str) -> str:
    """Return the Message-ID of a mail, the same on every attempt. The domain ``.invalid`` is reserved (RFC 2606)."""
    return f"<{mail_id}@popug.invalid>"


def one_line(error: str) -> str:
    """Shorten an error to one line of bounded length, without NUL, which PostgreSQL cannot store."""
    return (" ".join(error.replace("\0", "\N{REPLACEMENT CHARACTER}").split()) or "no reason given")[
        :MAX_ERROR_CHARACTERS
    ]


def subject_of(amount_cents: int, business_date: date | str) -> str:
    """Return the subject of a payslip."""
    return f"You are paid {format_cents(amount_cents)} for {business_date}"


def summary_subject_of(income_cents: int, business_date: date | str) -> str:
    """Return the subject of a daily summary."""
    return f"Closed {business_date}: income {format_cents(income_cents)}"
