"""Billing's queries."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from typing import Any

import msgspec

from popug_cli.billing import sql
from popug_cli.billing.balances import balance_at, earned_on, find_account, opening_balance
from popug_cli.billing.day_figures import company_days
from popug_cli.billing.days import open_business_date
from popug_cli.billing.export import day_ends, last_position, lines
from popug_cli.billing.rules import income_range, statement_range
from popug_cli.bus.context import Context
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.messages.base import ACCOUNTING, MAX_ANSWER_ROWS, page_bounds
from popug_cli.messages.billing import (
    Balance,
    DayEnds,
    Debtor,
    Entries,
    Entry,
    ExportDayEnds,
    ExportLedger,
    GetBalance,
    GetIncome,
    GetStatement,
    Income,
    InRed,
    LedgerChunk,
    ListInRed,
    ListTaskEntries,
    Statement,
)
from popug_cli.storage.id_index import equal_ids

ENTRY_COLUMNS = (
    "entry.entry_id, entry.occurred_at, entry.recorded_at, entry.business_date, entry.kind, entry.amount_cents,"
    f" {sql.SIGNED} AS signed_cents, entry.event_id, task.number, task.title"
)

SELECT_ENTRIES_WITH_BALANCE = (
    f"SELECT {ENTRY_COLUMNS}, coalesce((SELECT past.balance_cents FROM billing_account_days past"
    " WHERE past.employee_id = entry.employee_id AND past.business_date < entry.business_date"
    " ORDER BY past.business_date DESC LIMIT 1), 0)"
    f" + (SELECT sum({sql.signed('same')}) FROM billing_entries same WHERE same.employee_id = entry.employee_id"
    " AND same.business_date = entry.business_date AND same.position <= entry.position) AS balance_cents"
    " FROM billing_entries entry LEFT JOIN billing_tasks task ON task.task_id = entry.task_id"
)


def get_balance(message: GetBalance, context: Context) -> Balance:
    """Return a user's balance: now, at the end of a date, or as it was recorded by an instant.

    Rewards are those of that date, else of the open business date. Raise ``user_not_found``.
    """
    account = find_account(message.username, context)
    as_of = message.as_of_time
    day = message.as_of_date or open_business_date(as_of, context)
    if message.as_of_date is None and as_of is None:
        balance_cents = account.balance_cents
    else:
        balance_cents = balance_at(account.account_id, message.as_of_date or date.max, as_of, context)
    earned_cents = earned_on(account.account_id, day, as_of, context)
    today = context.calendar.date_of(as_of or context.now)
    return Balance(account.username, balance_cents, earned_cents, day, today)


def get_statement(message: GetStatement, context: Context) -> Statement:
    """Return the entries of a range of dates in the order (business date, position), each with the balance after it.

    The range begins today by default, and has no end by default, so that the last balance is the present one.
    An answer has at most ``MAX_ANSWER_ROWS`` entries. Raise ``user_not_found`` or ``invalid_range``.
    """
    account = find_account(message.username, context)
    as_of = message.as_of_time
    today = context.calendar.date_of(as_of or context.now)
    first, last = statement_range(message.from_date, message.to_date, today)
    opening_cents = opening_balance(account.account_id, first, as_of, context)
    where = (
        "entry.employee_id = :account AND entry.business_date BETWEEN :first AND :last"
        " AND (CAST(:as_of AS TEXT) IS NULL OR entry.recorded_at <= :as_of)"
    )
    values = {
        "account": account.account_id,
        "first": first.isoformat(),
        "last": last.isoformat(),
        "as_of": to_rfc3339(as_of) if as_of else None,
    }
    in_order = f"FROM billing_entries entry WHERE {where} ORDER BY entry.business_date, entry.position"
    bounds = page_bounds(message.limit, message.offset)
    skipped = f"SELECT coalesce(sum(cents), 0) FROM (SELECT {sql.SIGNED} AS cents {in_order} LIMIT :offset) AS skipped"
    skipped_cents = context.connection.scalar(skipped, **values, offset=bounds["offset"]) if message.offset else 0
    rows = context.connection.records(
        f"SELECT {ENTRY_COLUMNS} FROM billing_entries entry"
        f" LEFT JOIN billing_tasks task ON task.task_id = entry.task_id WHERE {where}"
        " ORDER BY entry.business_date, entry.position LIMIT :limit OFFSET :offset",
        **values,
        **bounds,
    )
    entries = [*_with_running_balance(rows, opening_cents + skipped_cents)]
    if len(entries) < bounds["limit"]:  # the last ones of the range
        closing_cents = entries[-1].balance_cents if entries else opening_cents + skipped_cents
    else:
        change = f"SELECT sum({sql.SIGNED}) FROM billing_entries entry WHERE {where}"
        closing_cents = opening_cents + context.connection.scalar(change, **values)
    return Statement(account.username, opening_cents, entries, closing_cents)


def list_in_red(message: ListInRed, context: Context) -> InRed:
    """Return the employees whose balance is below zero now, the lowest first, and their total number."""
    in_red = "FROM billing_accounts WHERE kind = 'employee' AND balance_cents < 0"
    rows = context.connection.records(
        f"SELECT coalesce(username, account_id) AS username, balance_cents {in_red}"
        " ORDER BY balance_cents, username LIMIT :limit",
        limit=min(message.limit, MAX_ANSWER_ROWS),
    )
    people = [msgspec.convert(row, Debtor) for row in rows]
    return InRed(people, context.connection.scalar(f"SELECT count(*) {in_red}"))


def list_task_entries(message: ListTaskEntries, context: Context) -> Entries:
    """Return the entries of a task in the order of recording.

    With ``username``, only that user's entries are returned. Without it, a caller whose role may not see other users'
    entries gets only the caller's own. Raise ``user_not_found``.
    """
    owner_id = None
    if message.username is not None or context.principal.role not in {None, *ACCOUNTING}:
        owner_id = find_account(message.username, context).account_id
    of_owner = "(CAST(:owner_id AS TEXT) IS NULL OR entry.employee_id = :owner_id)"
    where = f"{equal_ids('entry.task_id', ':task')} AND {of_owner} ORDER BY entry.position"
    rows = context.connection.records(
        f"{SELECT_ENTRIES_WITH_BALANCE} WHERE {where}", task=message.task_id, owner_id=owner_id
    )
    return Entries([entry_from(row, row["balance_cents"]) for row in rows])


def entry_of(entry_id: str, context: Context) -> Entry:
    """Return an entry by its id, which must exist."""
    rows = context.connection.records(
        f"{SELECT_ENTRIES_WITH_BALANCE} WHERE entry.entry_id = :entry_id", entry_id=entry_id
    )
    (row,) = rows
    return entry_from(row, row["balance_cents"])


def get_income(message: GetIncome, context: Context) -> Income:
    """Return management's income by day: recorded figures of closed days, current figures of open days.

    Raise ``invalid_range``.
    """
    as_of = message.as_of_time
    today = message.as_of_date or context.calendar.date_of(as_of or context.now)
    first, last = income_range(message.from_date, message.to_date, today)
    days = company_days(first, min(last, message.as_of_date or last), as_of, context)
    return Income(days, sum(day.income_cents for day in days))


def export_ledger(message: ExportLedger, context: Context) -> LedgerChunk:
    """Return the next entries after a position, at most ``limit`` and ``MAX_ANSWER_ROWS``, by position."""
    up_to = last_position(context) if message.up_to is None else message.up_to
    return LedgerChunk(up_to, lines(message.after, up_to, min(message.limit, MAX_ANSWER_ROWS), context))


def export_day_ends(message: ExportDayEnds, context: Context) -> DayEnds:
    """Return the day-end balances of the next accounts."""
    return day_ends(message, context)


def _with_running_balance(rows: Iterable[Mapping[str, Any]], balance_cents: int) -> Iterator[Entry]:
    for row in rows:
        balance_cents += row["signed_cents"]
        yield entry_from(row, balance_cents)


def entry_from(row: Mapping[str, Any], balance_cents: int) -> Entry:
    """Build an entry from a row of ``ENTRY_COLUMNS`` and the balance after it."""
    task = {"number": row["number"], "title": row["title"]} if row["number"] is not None else None
    return msgspec.convert({**row, "balance_cents": balance_cents, "task": task}, Entry)
