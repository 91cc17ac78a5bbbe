"""Versions of events that are not written any more, but stay in logs; ``upcasters.py`` converts them."""

from datetime import date

from popug_cli.messages.base import Cents, Event, Id, event
from popug_cli.messages.billing import PayslipLine


@event("billing", 1, subject_field="user_id")
class PayoutMadeV1(Event, frozen=True, kw_only=True):
    """A user was paid for a day, with a line for each entry of the day, however many. Not written any more."""

    user_id: Id
    business_date: date
    amount_cents: Cents
    opening_balance_cents: int
    lines: list[PayslipLine]
    log_head: str
