"""Messages of billing: prices, entries, balances, days."""

from datetime import date, datetime
from enum import StrEnum
from typing import Annotated

import msgspec

from popug_cli.messages.base import (
    ACCOUNTING,
    ADMINS,
    EVERYONE,
    Cents,
    Command,
    Count,
    Event,
    Id,
    Instant,
    Limit,
    Query,
    declare,
    event,
)
from popug_cli.messages.identity import Scope


class EntryKind(StrEnum):
    """The kind of an entry. It alone decides what the entry does to a balance, to fees and to rewards.

    ``balance_sign`` is 1 if an entry adds to the balance of its employee, and -1 if it takes from it. ``fee_sign`` and
    ``reward_sign`` say the same of the fees and the rewards of its day; they are 0 if it does not change them.
    """

    balance_sign: int
    fee_sign: int
    reward_sign: int

    FEE = "fee", -1, 1, 0
    REWARD = "reward", 1, 0, 1
    PAYOUT = "payout", -1, 0, 0
    FEE_REVERSAL = "fee_reversal", 1, -1, 0
    REWARD_REVERSAL = "reward_reversal", -1, 0, -1

    def __new__(cls, value: str, balance_sign: int = 0, fee_sign: int = 0, reward_sign: int = 0) -> "EntryKind":
        """Create a kind with its signs."""
        kind = str.__new__(cls, value)
        kind._value_ = value
        kind.balance_sign, kind.fee_sign, kind.reward_sign = balance_sign, fee_sign, reward_sign
        return kind


class TaskRef(msgspec.Struct, frozen=True):
    """The number and title of a task."""

    number: int
    title: str


class Entry(msgspec.Struct, frozen=True):
    """A line of an account: the amount, its effect on the balance and the balance after it, in cents."""

    entry_id: str
    occurred_at: datetime
    recorded_at: datetime
    business_date: date
    kind: EntryKind
    amount_cents: int
    signed_cents: int
    balance_cents: int
    task: TaskRef | None
    event_id: str


class Balance(msgspec.Struct, frozen=True):
    """The balance of a user, and the rewards of the business date: by default the open one, else the date asked for.

    ``today`` is the date in the company's time zone: now, or at the instant asked for.
    """

    username: str
    balance_cents: int
    earned_today_cents: int
    business_date: date
    today: date


class Statement(msgspec.Struct, frozen=True):
    """The lines of an account over a range of dates, by business date and position.

    Both balances are those of the whole range, also if the answer has only a part of the entries.
    """

    username: str
    opening_balance_cents: int
    entries: list[Entry]
    closing_balance_cents: int


class Entries(msgspec.Struct, frozen=True):
    """Entries of one task, in the order in which they were recorded."""

    entries: list[Entry]


class Day(msgspec.Struct, frozen=True):
    """The figures of a business date; ``in_red_count`` is the number of users in the red at its end."""

    business_date: date
    closed: bool
    fees_cents: int
    rewards_cents: int
    income_cents: int
    payouts_cents: int
    paid_count: int
    in_red_count: int


class Debtor(msgspec.Struct, frozen=True):
    """A user in the red; the balance is below zero."""

    username: str
    balance_cents: int


class InRed(msgspec.Struct, frozen=True):
    """The users with the lowest balances below zero, lowest first; ``total`` counts all users in the red."""

    people: list[Debtor]
    total: int


class Income(msgspec.Struct, frozen=True):
    """Management's income by day, oldest first."""

    days: list[Day]
    total_income_cents: int


class Payout(msgspec.Struct, frozen=True):
    """The payout of a user for a day."""

    username: str
    amount_cents: int


class ClosedDay(Day, frozen=True):
    """A day that the command closed, would close, or found closed."""

    already_closed: bool
    payouts: list[Payout]


class MailCount(msgspec.Struct, frozen=True):
    """The number of mails sent by this command, of mails still to be sent, and of mails that failed in it."""

    sent: int
    queued: int
    failed: int = 0


class SetAside(msgspec.Struct, frozen=True):
    """An event that a consumer has parked, with the money at stake."""

    event: str
    consumer: str
    amount_cents: int


class CloseReport(msgspec.Struct, frozen=True):
    """The result of closing days."""

    days: list[ClosedDay]
    mail: MailCount
    set_aside: list[SetAside]


class LedgerLine(msgspec.Struct, frozen=True):
    """An entry between the account of a user, given by username, and ``management`` or ``payouts``."""

    position: int
    entry_id: str
    event_id: str
    business_date: date
    occurred_at: datetime
    recorded_at: datetime
    kind: EntryKind
    person: str
    other_account: str
    amount_cents: int
    task: TaskRef | None
    corrects: str | None

    @property
    def signed_cents(self) -> int:
        """The effect on the user's account; the other account moves by the opposite amount."""
        return self.kind.balance_sign * self.amount_cents


class LedgerChunk(msgspec.Struct, frozen=True):
    """Consecutive entries by position, of a ledger that ends at ``up_to``."""

    up_to: int
    lines: list[LedgerLine]


class DayEnd(msgspec.Struct, frozen=True):
    """The balance of an account at the end of a business date; ``is_person`` if ``account`` is a username."""

    account: str
    is_person: bool
    business_date: date
    balance_cents: int


class DayEnds(msgspec.Struct, frozen=True):
    """The ends of all days of some accounts, account by account; ``after`` asks for the next, None at the end."""

    ends: list[DayEnd]
    after: str | None


@declare("balance", roles=EVERYONE, roles_for_others=ACCOUNTING)
class GetBalance(Query[Balance], frozen=True, kw_only=True):
    """Return the balance of a user, by default the sender's own."""

    username: str | None = None
    as_of_date: date | None = None
    as_of_time: Instant | None = None


@declare("statement", roles=EVERYONE, roles_for_others=ACCOUNTING)
class GetStatement(Query[Statement], frozen=True, kw_only=True):
    """Return the entries of a range of dates, by default from today on; by default the sender's own.

    An answer has at most 10,000 entries; ``offset`` asks for the rest.
    """

    username: str | None = None
    from_date: date | None = None
    to_date: date | None = None
    as_of_time: Instant | None = None
    limit: Limit | None = None
    offset: Count = 0


@declare("income", roles=ACCOUNTING)
class GetIncome(Query[Income], frozen=True, kw_only=True):
    """Return management's income by day, by default of today and the six days before."""

    from_date: date | None = None
    to_date: date | None = None
    as_of_date: date | None = None
    as_of_time: Instant | None = None


@declare("analytics", roles=ADMINS)
class ListInRed(Query[InRed], frozen=True, kw_only=True):
    """Return the users who are in the red now."""

    limit: Limit = 20


@declare("task show", roles=EVERYONE, roles_for_others=ACCOUNTING)
class ListTaskEntries(Query[Entries], frozen=True, kw_only=True):
    """Return the entries of a task: those of one user, or of all users if ``username`` is None."""

    task_id: str
    username: str | None = None


@declare("close-day", roles=ACCOUNTING, scopes=frozenset({Scope.CLOSE_DAY}))
class CloseDay(Command[CloseReport], frozen=True, kw_only=True):
    """Close every open day up to a date, today by default: pay out positive balances and send the due mail.

    ``yesterday`` means the day before the day on which the command runs. ``dry_run`` returns what would be paid, and
    closes nothing. ``send_mail=False`` leaves the mail queued. ``confirmed`` allows more than 31 days at once.
    ``expected_payouts_cents`` is the total that was shown to the user who confirmed; another one is not paid.
    """

    day: date | None = None
    yesterday: bool = False
    dry_run: bool = False
    send_mail: bool = True
    confirmed: bool = False
    expected_payouts_cents: Count | None = None


@declare("ledger correct", roles=ADMINS)
class CorrectEntry(Command[Entry], frozen=True, kw_only=True):
    """Post an entry in the open day that reverses another one, for a recorded reason."""

    entry_id: str
    reason: str


@declare("ledger export", roles=ACCOUNTING)
class ExportLedger(Query[LedgerChunk], frozen=True, kw_only=True):
    """Return the next entries after a position; ``up_to`` fixes the end of the ledger between requests."""

    after: Count = 0
    up_to: Count | None = None
    limit: Limit = 5_000


@declare("ledger export", roles=ACCOUNTING)
class ExportDayEnds(Query[DayEnds], frozen=True, kw_only=True):
    """Return the balances at the ends of days for the next accounts, of a ledger that ends at ``up_to``."""

    up_to: Count
    after: str = ""


class PriceDraw(msgspec.Struct, frozen=True):
    """The seed and the algorithm with which a price was drawn."""

    seed: str
    algorithm: str


MAX_PAYSLIP_LINES = 500  # so that an event fits into one record of Kafka


class PayslipLine(msgspec.Struct, frozen=True):
    """One of the day's entries on a payslip; ``signed_cents`` is its effect on the balance."""

    occurred_at: datetime
    kind: EntryKind
    signed_cents: int
    task: TaskRef | None = None


@event("billing", 1, subject_field="task_id")
class TaskPriced(Event, frozen=True, kw_only=True):
    """A task got its fee and its reward; they never change."""

    task_id: Id
    fee_cents: Cents
    reward_cents: Cents
    draw: PriceDraw


@event("billing", 1, subject_field="user_id")
class EntryPosted(Event, frozen=True, kw_only=True):
    """An entry was posted to the ledger."""

    entry_id: Id
    user_id: Id
    kind: EntryKind
    amount_cents: Cents
    business_date: date
    task_id: Id | None = None
    corrects: Id | None = None


@event("billing", 1, subject_field="corrects")
class EntryCorrected(Event, frozen=True, kw_only=True):
    """An admin reversed an entry: ``entry_id`` is the entry that reverses ``corrects``; the actor is the admin."""

    entry_id: Id
    corrects: Id
    user_id: Id
    reason: str


@event("billing", 2, subject_field="user_id")
class PayoutMade(Event, frozen=True, kw_only=True):
    """A user was paid for a day; ``log_head`` is the head of the log's hash chain after the day's entries.

    ``lines`` are the first of the day's ``line_count`` entries. They are all entries of the day, unless these are more
    than 500 or their titles are very long.
    """

    user_id: Id
    business_date: date
    amount_cents: Cents
    opening_balance_cents: int
    lines: Annotated[list[PayslipLine], msgspec.Meta(max_length=MAX_PAYSLIP_LINES)]
    line_count: Count
    log_head: str


@event("billing", 1, subject_field="business_date")
class DayClosed(Event, frozen=True, kw_only=True):
    """A day was closed, with these figures."""

    business_date: date
    fees_cents: int
    rewards_cents: int
    income_cents: int
    payouts_cents: int
    paid_count: Count
    in_red_count: Count
