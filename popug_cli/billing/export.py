"""Export of the whole ledger up to one position, in chunks that fit into memory."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from itertools import accumulate
from typing import Any

import msgspec

from popug_cli.billing import sql
from popug_cli.billing.days import first_day, first_open
from popug_cli.billing.rules import MANAGEMENT, PAYOUTS
from popug_cli.bus.context import Context
from popug_cli.messages.billing import DayEnd, DayEnds, ExportDayEnds, LedgerLine

DAY_ENDS_AT_ONCE = 5_000
SELECT_LEDGER_LINES = (
    "SELECT entry.position, entry.entry_id, entry.event_id, entry.business_date, entry.occurred_at, entry.recorded_at,"
    " entry.kind, coalesce(account.username, account.account_id) AS person, entry.amount_cents, entry.corrects,"
    " task.number, task.title, CASE WHEN entry.debit_account = entry.employee_id THEN entry.credit_account"
    " ELSE entry.debit_account END AS other_account"
    " FROM billing_entries entry JOIN billing_accounts account ON account.account_id = entry.employee_id"
    " LEFT JOIN billing_tasks task ON task.task_id = entry.task_id"
    " WHERE entry.position > :after AND entry.position <= :up_to ORDER BY entry.position LIMIT :limit"
)
SELECT_EMPLOYEES = (
    "SELECT account_id, coalesce(username, account_id) AS name FROM billing_accounts"
    " WHERE kind = 'employee' AND account_id > :after ORDER BY account_id LIMIT :limit"
)
SELECT_DAY_ENDS = (
    "SELECT employee_id, business_date, balance_cents FROM billing_account_days"
    " WHERE employee_id BETWEEN :first AND :last"
)
SELECT_CHANGES_SINCE = (
    f"SELECT entry.employee_id, entry.business_date, sum({sql.SIGNED}) AS cents FROM billing_entries entry"
    " WHERE entry.position > :up_to GROUP BY entry.employee_id, entry.business_date"
)
SELECT_COMPANY_CHANGES = (
    "SELECT business_date, sum(fees_cents - rewards_cents) AS management, sum(payouts_cents) AS payouts"
    " FROM billing_account_days GROUP BY business_date"
)
SELECT_COMPANY_CHANGES_SINCE = (
    "SELECT entry.business_date, CASE entry.kind WHEN 'payout' THEN 'payouts' ELSE 'management' END AS account,"
    f" -sum({sql.SIGNED}) AS cents FROM billing_entries entry WHERE entry.position > :up_to GROUP BY 1, 2"
)


def last_position(context: Context) -> int:
    """Return the position of the last entry, or 0."""
    return context.connection.scalar("SELECT max(position) FROM billing_entries") or 0


def lines(after: int, up_to: int, limit: int, context: Context) -> list[LedgerLine]:
    """Return the next entries after a position, at most ``limit`` and none after ``up_to``."""
    rows = context.connection.records(SELECT_LEDGER_LINES, after=after, up_to=up_to, limit=limit)
    return [_line(row) for row in rows]


def day_ends(message: ExportDayEnds, context: Context) -> DayEnds:
    """Return every day-end balance of the next employees; the last chunk also has those of management and payouts."""
    days = _days(context)
    limit = max(1, DAY_ENDS_AT_ONCE // max(1, len(days)))
    employees = context.connection.select(SELECT_EMPLOYEES, after=message.after, limit=limit)
    ends = [DayEnd(name, True, *day_end) for name, day_end in _employee_ends(employees, days, message.up_to, context)]
    if len(employees) < limit:
        return DayEnds([*ends, *_company_ends(days, message.up_to, context)], None)
    return DayEnds(ends, employees[-1][0])


def _line(row: Mapping[str, Any]) -> LedgerLine:
    task = {"number": row["number"], "title": row["title"]} if row["number"] is not None else None
    return msgspec.convert({**row, "task": task}, LedgerLine)


def _days(context: Context) -> list[date]:
    """Return every day of the company up to today or, if it is later, the first open day."""
    first, next_to_close = first_day(context), first_open(context)
    today = context.calendar.date_of(context.now)
    return [*context.calendar.days(first, max(today, next_to_close or today))] if first else []


def _employee_ends(
    employees: Sequence[Any], days: Sequence[date], up_to: int, context: Context
) -> Iterator[tuple[str, tuple[date, int]]]:
    """Yield the name and each day-end balance of each employee, as if the entries after ``up_to`` did not exist."""
    if not employees:
        return
    balances_of: dict[str, dict[str, int]] = defaultdict(dict)
    first, last = employees[0][0], employees[-1][0]
    for employee_id, day, cents in context.connection.stream(SELECT_DAY_ENDS, first=first, last=last):
        balances_of[employee_id][day] = cents
    later_changes_of: dict[str, dict[str, int]] = defaultdict(dict)
    for employee_id, day, cents in context.connection.stream(SELECT_CHANGES_SINCE, up_to=up_to):
        later_changes_of[employee_id][day] = cents
    for account_id, name in employees:
        own_balances, own_later_changes = balances_of[account_id], later_changes_of[account_id]
        balance_cents = later_cents = 0
        for day in days:
            balance_cents = own_balances.get(day.isoformat(), balance_cents)
            later_cents += own_later_changes.get(day.isoformat(), 0)
            yield name, (day, balance_cents - later_cents)


def _company_ends(days: Sequence[date], up_to: int, context: Context) -> Iterator[DayEnd]:
    changes: dict[tuple[str, str], int] = defaultdict(int)
    for day, management, payouts in context.connection.stream(SELECT_COMPANY_CHANGES):
        changes[day, MANAGEMENT], changes[day, PAYOUTS] = management, payouts
    for day, account, cents in context.connection.stream(SELECT_COMPANY_CHANGES_SINCE, up_to=up_to):
        changes[day, account] -= cents
    for account in (MANAGEMENT, PAYOUTS):
        sums = accumulate(changes[day.isoformat(), account] for day in days)
        for day, cents in zip(days, sums, strict=True):
            yield DayEnd(account, False, day, cents)
