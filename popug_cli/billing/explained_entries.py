"""The entries that a figure sums up: the latest of them, and the number and the sum of all."""

from datetime import date
from typing import NamedTuple

from popug_cli.billing.queries import ENTRY_COLUMNS, entry_from
from popug_cli.bus.context import Context
from popug_cli.messages.billing import Entry, EntryKind


class EntriesOfKind(NamedTuple):
    """The entries of one kind on a business date: their number, their sum in cents, and the latest of them."""

    kind: EntryKind
    entries_count: int
    amount_cents: int
    latest: list[Entry]


def latest_entries(account_id: str, closed: date | None, limit: int, context: Context) -> list[Entry]:
    """Return the last ``limit`` entries after the day ``closed``, in the order (business date, position).

    Their balances are not computed.
    """
    statement = (
        f"SELECT {ENTRY_COLUMNS} FROM billing_entries entry"
        " LEFT JOIN billing_tasks task ON task.task_id = entry.task_id"
        " WHERE entry.employee_id = :account AND entry.business_date > :closed"
        " ORDER BY entry.business_date DESC, entry.position DESC LIMIT :limit"
    )
    parameters = {"account": account_id, "closed": closed.isoformat() if closed else "", "limit": limit}
    rows = context.connection.records(statement, **parameters)
    return [entry_from(row, 0) for row in reversed(rows)]


def entries_by_kind(day: date, limit: int, context: Context) -> list[EntriesOfKind]:
    """Return the entries of a business date that change management's account, by kind.

    Each kind has its last ``limit`` entries, in the order of the ledger. Their balances are not computed.
    """
    statement = (
        "SELECT entry.kind, count(*), sum(entry.amount_cents)"
        " FROM billing_accounts account CROSS JOIN billing_entries entry"
        " WHERE entry.employee_id = account.account_id AND entry.business_date = :day AND entry.kind <> 'payout'"
        " GROUP BY entry.kind"
    )
    rows = {kind: (count, cents) for kind, count, cents in context.connection.select(statement, day=day.isoformat())}
    return [
        EntriesOfKind(kind, *rows[kind], _latest_of_kind(day, kind, limit, context))
        for kind in EntryKind
        if kind in rows
    ]


def _latest_of_kind(day: date, kind: EntryKind, limit: int, context: Context) -> list[Entry]:
    statement = (
        f"SELECT {ENTRY_COLUMNS} FROM billing_accounts account CROSS JOIN billing_entries entry"
        " LEFT JOIN billing_tasks task ON task.task_id = entry.task_id"
        " WHERE entry.employee_id = account.account_id AND entry.business_date = :day AND entry.kind = :kind"
        " ORDER BY entry.position DESC LIMIT :limit"
    )
    parameters = {"day": day.isoformat(), "kind": kind.value, "limit": limit}
    rows = context.connection.records(statement, **parameters)
    return [entry_from(row, 0) for row in reversed(rows)]
