"""Closing a day: pay out every positive balance and record the day's figures, which never change afterwards."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date
from functools import cache
from itertools import accumulate
from typing import NamedTuple

import msgspec

from popug_cli.billing import sql
from popug_cli.billing.day_figures import recorded_day
from popug_cli.billing.days import first_open
from popug_cli.billing.ledger import NewEntry, post
from popug_cli.bus.consumers import rolled_back
from popug_cli.bus.context import Context
from popug_cli.bus.publisher import MAX_EVENT_BYTES
from popug_cli.kernel.batches import batched
from popug_cli.kernel.clock import from_rfc3339, to_rfc3339
from popug_cli.messages.billing import (
    MAX_PAYSLIP_LINES,
    ClosedDay,
    Day,
    DayClosed,
    EntryKind,
    Payout,
    PayoutMade,
    PayslipLine,
    TaskRef,
)

PAYEES_PER_BATCH = 500
MAX_LINES_BYTES = MAX_EVENT_BYTES - 100_000  # the rest of the event needs much less than 100,000 bytes
MAX_BYTES_WITHOUT_TITLE = 200  # of a line
MAX_BYTES_PER_CHARACTER = 6  # of a title in JSON
# An employee without entries on the day has no row for it; then the latest earlier row has the balance.
SELECT_BALANCES_AT_DAY_END = (
    "SELECT account.account_id, coalesce(account.username, account.account_id),"
    " coalesce(account_day.balance_cents, (SELECT earlier.balance_cents FROM billing_account_days earlier"
    " WHERE earlier.employee_id = account.account_id AND earlier.business_date < :day"
    " ORDER BY earlier.business_date DESC LIMIT 1), 0),"
    " coalesce(account_day.fees_cents, 0), coalesce(account_day.rewards_cents, 0)"
    " FROM billing_accounts account LEFT JOIN billing_account_days account_day"
    " ON account_day.employee_id = account.account_id AND account_day.business_date = :day"
    " WHERE account.kind = 'employee' ORDER BY account.account_id"
)
SELECT_TOTAL_PAYOUTS = (
    "SELECT coalesce(sum(account_day.payouts_cents), 0)"
    " FROM billing_accounts account CROSS JOIN billing_account_days account_day"
    " WHERE account_day.employee_id = account.account_id AND account_day.business_date = :day"
)
KIND_BY_VALUE = {kind.value: kind for kind in EntryKind}


class Payee(msgspec.Struct, frozen=True, gc=False):
    """An employee with a positive balance at the end of a day; ``event_id`` is reserved for the payout's event."""

    employee_id: str
    username: str
    opening_cents: int
    amount_cents: int
    event_id: str


class DayTotals(NamedTuple):
    """The figures of a day before its payouts, and the employees to pay."""

    payees: list[Payee]
    fees_cents: int
    rewards_cents: int
    in_red_count: int


def close_next(up_to: date, context: Context) -> ClosedDay | None:
    """Close the oldest open day and return it; None if no day up to ``up_to`` is open."""
    day = first_open(context)
    if day is None or day > up_to:
        return None
    totals = _day_totals(day, context)
    _pay(totals.payees, day, context)
    figures = _record_day(day, totals, context)
    payouts = [Payout(payee.username, payee.amount_cents) for payee in totals.payees]
    return _result(figures, payouts, already_closed=False)


def closed_day(day: date, context: Context) -> ClosedDay | None:
    """Return the recorded figures and payouts of a closed day; None if the day is not closed."""
    figures = recorded_day(day, context)
    if figures is None:
        return None
    rows = context.connection.select(
        "SELECT coalesce(account.username, account.account_id), entry.amount_cents FROM billing_entries entry"
        " JOIN billing_accounts account ON account.account_id = entry.employee_id"
        " WHERE entry.kind = 'payout' AND entry.business_date = :day",
        day=day.isoformat(),
    )
    return _result(figures, [Payout(*row) for row in rows], already_closed=True)


def dry_run(up_to: date, context: Context) -> list[ClosedDay]:
    """Return the days that a close up to a date would close, with their figures and payouts; roll back every change."""
    days = []
    with rolled_back(context):
        while (day := close_next(up_to, context)) is not None:
            days.append(msgspec.structs.replace(day, closed=False))
    return days


def _day_totals(day: date, context: Context) -> DayTotals:
    """Compute a day's figures and payees in one pass, because there may be a hundred thousand accounts."""
    payees, fees_cents, rewards_cents, in_red_count = [], 0, 0, 0
    rows = context.connection.stream(SELECT_BALANCES_AT_DAY_END, day=day.isoformat())
    for employee_id, username, balance_cents, fees, rewards in rows:
        fees_cents += fees
        rewards_cents += rewards
        if balance_cents > 0:
            opening_cents = balance_cents - rewards + fees
            payees.append(Payee(employee_id, username, opening_cents, balance_cents, context.events.new_id()))
        elif balance_cents < 0:
            in_red_count += 1
    return DayTotals(payees, fees_cents, rewards_cents, in_red_count)


def _pay(payees: Sequence[Payee], day: date, context: Context) -> None:
    """Post all payouts, then publish each with the head of the hash chain, which covers their ``entry_posted``."""
    batches = [*batched(payees, PAYEES_PER_BATCH)]
    last_position = context.connection.scalar("SELECT max(position) FROM billing_entries")
    for batch in batches:
        _post_payouts(batch, day, context)
    head = context.events.close_link()
    for number, batch in enumerate(batches):
        context.progress(f"Closing {day}", number * PAYEES_PER_BATCH, len(payees))
        _publish_payouts(batch, _payslip_lines(batch, day, last_position, context), day, head, context)
    context.progress(f"Closing {day}", len(payees), len(payees))


def _post_payouts(payees: Sequence[Payee], day: date, context: Context) -> None:
    entries = [
        NewEntry(payee.event_id, payee.employee_id, EntryKind.PAYOUT, payee.amount_cents, day, context.now)
        for payee in payees
    ]
    post(entries, context)


def _publish_payouts(
    payees: Sequence[Payee], lines: Mapping[str, list[PayslipLine]], day: date, head: str, context: Context
) -> None:
    for payee in payees:
        payee_lines = lines[payee.employee_id]
        assert payee.opening_cents + sum([line.signed_cents for line in payee_lines]) == payee.amount_cents
        context.events.publish(
            PayoutMade(
                user_id=payee.employee_id,
                business_date=day,
                amount_cents=payee.amount_cents,
                opening_balance_cents=payee.opening_cents,
                lines=_shown_lines(payee_lines),
                line_count=len(payee_lines),
                log_head=head,
            ),
            event_id=payee.event_id,
        )


def _shown_lines(lines: list[PayslipLine]) -> list[PayslipLine]:
    """Return the first lines, as many as the event of a payout can have: ``MAX_PAYSLIP_LINES``, ``MAX_LINES_BYTES``."""
    lines = lines[:MAX_PAYSLIP_LINES]
    title_characters = sum([len(line.task.title) for line in lines if line.task])
    if MAX_BYTES_WITHOUT_TITLE * len(lines) + MAX_BYTES_PER_CHARACTER * title_characters <= MAX_LINES_BYTES:
        return lines
    sizes = accumulate(len(msgspec.json.encode(line)) + 1 for line in lines)
    return [line for line, size in zip(lines, sizes, strict=True) if size <= MAX_LINES_BYTES]


def _payslip_lines(
    payees: Sequence[Payee], day: date, last_position: int, context: Context
) -> Mapping[str, list[PayslipLine]]:
    """Return the day's entries up to ``last_position`` as payslip lines by employee; the payouts come after it.

    The lines include every employee whose id lies between those of the first and the last payee.
    """
    rows = context.connection.stream(
        f"SELECT account.account_id, entry.occurred_at, entry.kind, {sql.SIGNED},"
        " task.number, task.title FROM billing_accounts account CROSS JOIN billing_entries entry"
        " LEFT JOIN billing_tasks task ON task.task_id = entry.task_id"
        " WHERE account.account_id BETWEEN :first AND :last AND entry.employee_id = account.account_id"
        " AND entry.business_date = :day AND entry.position <= :last_position"
        " ORDER BY account.account_id, entry.position",
        first=payees[0].employee_id,
        last=payees[-1].employee_id,
        day=day.isoformat(),
        last_position=last_position,
    )
    lines: dict[str, list[PayslipLine]] = defaultdict(list)
    parse_time = cache(from_rfc3339)
    for employee_id, occurred_at, kind, signed_cents, number, title in rows:
        task = TaskRef(number, title) if number is not None else None
        lines[employee_id].append(PayslipLine(parse_time(occurred_at), KIND_BY_VALUE[kind], signed_cents, task))
    return lines


def _record_day(day: date, totals: DayTotals, context: Context) -> Day:
    payouts_cents = sum([payee.amount_cents for payee in totals.payees])
    assert context.connection.scalar(SELECT_TOTAL_PAYOUTS, day=day.isoformat()) == payouts_cents
    event = DayClosed(
        business_date=day,
        fees_cents=totals.fees_cents,
        rewards_cents=totals.rewards_cents,
        income_cents=totals.fees_cents - totals.rewards_cents,
        payouts_cents=payouts_cents,
        paid_count=len(totals.payees),
        in_red_count=totals.in_red_count,
    )
    figures = (event.fees_cents, event.rewards_cents, payouts_cents, event.paid_count, event.in_red_count)
    context.connection.insert_many(
        "INSERT INTO billing_days (business_date, fees_cents, rewards_cents, payouts_cents, paid_count, in_red_count,"
        " closed_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(day.isoformat(), *figures, to_rfc3339(context.now))],
    )
    context.events.publish(event)
    return Day(closed=True, **msgspec.structs.asdict(event))


def _result(figures: Day, payouts: Sequence[Payout], *, already_closed: bool) -> ClosedDay:
    by_name = sorted(payouts, key=lambda payout: payout.username)
    return ClosedDay(**msgspec.structs.asdict(figures), already_closed=already_closed, payouts=by_name)
