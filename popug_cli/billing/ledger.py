"""The only code that writes ledger entries and, with them, the balances of accounts and of account days."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from functools import cache

import msgspec

from popug_cli.billing.rules import MANAGEMENT, PAYOUTS
from popug_cli.bus.context import Context
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.messages.base import Event
from popug_cli.messages.billing import EntryKind, EntryPosted
from popug_cli.messages.envelope import Delivered

FEES, REWARDS, PAYOUTS_MADE, NET = range(4)  # the order of the columns in CHANGE_FROM_VALUES
Changes = dict[date, dict[str, list[int]]]
"""What entries change in cents, in the order of these columns, by business date and employee."""

CHANGE_FROM_VALUES = (
    "(SELECT column1 AS employee_id, column2 AS business_date, column3 AS fees_cents, column4 AS rewards_cents,"
    " column5 AS payouts_cents, column6 AS net_cents FROM (VALUES (?, ?, ?, ?, ?, ?)) AS parameters) AS change"
)
UPDATE_ACCOUNT_DAY = (
    "UPDATE billing_account_days AS day SET fees_cents = day.fees_cents + change.fees_cents,"
    " rewards_cents = day.rewards_cents + change.rewards_cents,"
    " payouts_cents = day.payouts_cents + change.payouts_cents,"
    f" balance_cents = day.balance_cents + change.net_cents FROM {CHANGE_FROM_VALUES}"
    " WHERE day.employee_id = change.employee_id AND day.business_date = change.business_date"
)
INSERT_ACCOUNT_DAY = (
    "INSERT INTO billing_account_days"
    " (employee_id, business_date, fees_cents, rewards_cents, payouts_cents, balance_cents)"
    " SELECT change.employee_id, change.business_date, change.fees_cents, change.rewards_cents, change.payouts_cents,"
    " change.net_cents + coalesce((SELECT day.balance_cents FROM billing_account_days day"
    " WHERE day.employee_id = change.employee_id AND day.business_date < change.business_date"
    f" ORDER BY day.business_date DESC LIMIT 1), 0) FROM {CHANGE_FROM_VALUES}"
    " WHERE true ON CONFLICT (employee_id, business_date) DO NOTHING"
)
UPDATE_LATER_BALANCES = (
    "UPDATE billing_account_days AS day SET balance_cents = day.balance_cents + change.net_cents"
    f" FROM {CHANGE_FROM_VALUES}"
    " WHERE day.employee_id = change.employee_id AND day.business_date > change.business_date"
)


class NewEntry(msgspec.Struct, frozen=True, gc=False):
    """An entry to post.

    ``event_id`` is the id of the event that caused it. ``cause`` is that event itself if a consumer processes it.
    """

    event_id: str
    employee_id: str
    kind: EntryKind
    amount_cents: int
    business_date: date
    occurred_at: datetime
    task_id: str | None = None
    corrects: str | None = None
    cause: Delivered[Event] | None = None


def already_posted(event_ids: Iterable[str], context: Context) -> set[str]:
    """Return those of the event ids that already have an entry."""
    statement = "SELECT event_id FROM billing_entries WHERE event_id IN"
    return {event_id for (event_id,) in context.connection.select_in(statement, list(event_ids))}


def post(entries: Sequence[NewEntry], context: Context) -> list[str]:
    """Write entries in this order, update the balances, publish ``entry_posted`` for each, and return the entry ids."""
    changes = _changes_by_day(entries)
    _update_accounts(changes, context)
    rows = [(context.events.new_id(), entry) for entry in entries]
    _insert_entries(rows, context)
    _update_account_days(changes, context)
    for entry_id, entry in rows:
        context.events.publish(
            EntryPosted(
                entry_id=entry_id,
                user_id=entry.employee_id,
                kind=entry.kind,
                amount_cents=entry.amount_cents,
                business_date=entry.business_date,
                task_id=entry.task_id,
                corrects=entry.corrects,
            ),
            cause=entry.cause,
            causation_id=entry.event_id,
        )
    return [entry_id for entry_id, _ in rows]


def _insert_entries(rows: Sequence[tuple[str, NewEntry]], context: Context) -> None:
    recorded_at, stored_time, stored_date = to_rfc3339(context.now), cache(to_rfc3339), cache(date.isoformat)
    last_position = context.connection.scalar("SELECT max(position) FROM billing_entries") or 0
    context.connection.insert_many(
        "INSERT INTO billing_entries (position, entry_id, event_id, employee_id, amount_cents,"
        " kind, business_date, occurred_at, recorded_at, task_id, corrects)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                position,
                entry_id,
                entry.event_id,
                entry.employee_id,
                entry.amount_cents,
                entry.kind.value,
                stored_date(entry.business_date),
                stored_time(entry.occurred_at),
                recorded_at,
                entry.task_id,
                entry.corrects,
            )
            for position, (entry_id, entry) in enumerate(rows, start=last_position + 1)
        ],
    )


def _changes_by_day(entries: Sequence[NewEntry]) -> Changes:
    """Add up the entries."""
    changes: Changes = defaultdict(lambda: defaultdict(lambda: [0, 0, 0, 0]))
    for entry in entries:
        change, kind, cents = changes[entry.business_date][entry.employee_id], entry.kind, entry.amount_cents
        change[NET] += kind.balance_sign * cents
        if kind is EntryKind.PAYOUT:
            change[PAYOUTS_MADE] += cents
        else:
            change[FEES] += kind.fee_sign * cents
            change[REWARDS] += kind.reward_sign * cents
    return changes


def _update_accounts(changes: Changes, context: Context) -> None:
    """Update the balances of accounts; create a missing account, so that an entry never waits for a registration.

    The counterpart of a payout is ``PAYOUTS``, and that of all other entries ``MANAGEMENT``.
    """
    change_cents: dict[str, int] = defaultdict(int)
    payouts_cents = management_cents = 0
    for by_employee in changes.values():
        for employee_id, change in by_employee.items():
            change_cents[employee_id] += change[NET]
            payouts_cents += change[PAYOUTS_MADE]
            management_cents += change[FEES] - change[REWARDS]
    assert sum(change_cents.values()) + payouts_cents + management_cents == 0
    counterparts = ((PAYOUTS, PAYOUTS, payouts_cents), (MANAGEMENT, MANAGEMENT, management_cents))
    context.connection.insert_many(
        "INSERT INTO billing_accounts (account_id, kind, balance_cents) VALUES (?, ?, ?) ON CONFLICT (account_id)"
        " DO UPDATE SET balance_cents = billing_accounts.balance_cents + excluded.balance_cents",
        [
            *((account, "employee", cents) for account, cents in change_cents.items()),
            *(counterpart for counterpart in counterparts if counterpart[2]),
        ],
    )


def _update_account_days(changes: Changes, context: Context) -> None:
    # Oldest first, because a new day's balance starts from that of the latest earlier day.
    for day in sorted(changes):
        stored_day = day.isoformat()
        rows = [(employee_id, stored_day, *cents) for employee_id, cents in changes[day].items()]
        if context.connection.insert_many(UPDATE_ACCOUNT_DAY, rows) < len(rows):
            context.connection.insert_many(INSERT_ACCOUNT_DAY, rows)
        context.connection.insert_many(UPDATE_LATER_BALANCES, rows)
