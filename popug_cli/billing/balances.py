"""Balances at the end of a date, as they are known now or as they were known at some instant."""

from datetime import date, datetime
from typing import Any, NamedTuple

from sqlalchemy import text

from popug_cli.billing.rules import Movement, day_before
from popug_cli.bus.runtime import Context
from popug_cli.kernel.clock import stamp
from popug_cli.kernel.errors import NotFound
from popug_cli.storage.engine import scalar


class Account(NamedTuple):
    """An employee's account: the user id, and the name where it is known."""

    account_id: str
    username: str
    balance_cents: int


class Moved(NamedTuple):
    """What entries do to a balance, and what of it are rewards, reversals counted in; in cents."""

    change_cents: int
    earned_cents: int


OWN_SEGMENTS = "employee_id = :account AND business_date BETWEEN :first AND :last"
WHOLE_SEGMENTS = (
    "SELECT coalesce(sum(change_cents), 0) AS change_cents, coalesce(sum(earned_cents), 0) AS earned_cents"
    f" FROM billing_segments WHERE {OWN_SEGMENTS} AND last_recorded_at <= :known_at"
)
OTHER_ENTRIES = f"""
    SELECT coalesce(sum(CASE WHEN entry.credit_account = entry.employee_id THEN entry.amount_cents
            ELSE -entry.amount_cents END), 0) AS change_cents,
        coalesce(sum(CASE entry.kind WHEN 'reward' THEN entry.amount_cents WHEN 'reward_reversal'
            THEN -entry.amount_cents ELSE 0 END), 0) AS earned_cents
    FROM (
        SELECT segment, business_date AS first_date, business_date AS last_date FROM billing_segments
        WHERE {OWN_SEGMENTS} AND first_recorded_at <= :known_at AND last_recorded_at > :known_at
        UNION ALL SELECT coalesce(max(position), 0) / 1024, :first, :last FROM billing_entries
    ) AS part CROSS JOIN billing_entries entry
    WHERE entry.position BETWEEN part.segment * 1024 + 1 AND part.segment * 1024 + 1024
        AND entry.employee_id || '' = :account AND entry.recorded_at <= :known_at
        AND entry.business_date BETWEEN part.first_date AND part.last_date
"""


def find_account(username: str | None, context: Context) -> Account:
    """The account of a person, one's own where nobody is named; raises ``user_not_found``.

    One's own is there from the start, though billing may not have heard of oneself yet.
    """
    principal = context.principal
    name = (username or principal.username).lower()
    row = _first(context, "SELECT account_id, balance_cents FROM billing_accounts WHERE username = :name", name=name)
    if row is not None:
        return Account(row.account_id, name, row.balance_cents)
    if principal.user_id and name == principal.username:
        return Account(principal.user_id, name, 0)
    raise NotFound(
        "user_not_found",
        f"There is nobody called {name!r}.",
        hint="Run `popug user list` for everybody.",
        details={"username": name},
    )


def balance_at(account_id: str, day: date | None, known_at: datetime | None, context: Context) -> int:
    """The balance at the end of a date in cents; 0 for None, the day before all days.

    With ``known_at`` only what was recorded by then counts.
    """
    if day is None:
        return 0
    if known_at is None:
        return _end_of(account_id, day, context)
    return moved_by(account_id, (date.min, day), known_at, context).change_cents


def opening_balance(account_id: str, day: date, known_at: datetime | None, context: Context) -> int:
    """The balance with which a date begins, in cents."""
    return balance_at(account_id, day_before(day), known_at, context)


def earned_on(account_id: str, day: date, known_at: datetime | None, context: Context) -> int:
    """The rewards of a business date, reversals counted in, in cents."""
    if known_at is not None:
        return moved_by(account_id, (day, day), known_at, context).earned_cents
    found = scalar(
        context.connection,
        "SELECT rewards_cents FROM billing_account_days WHERE employee_id = :account AND business_date = :day",
        account=account_id,
        day=day.isoformat(),
    )
    return found or 0


def moved_by(account_id: str, days: tuple[date, date], known_at: datetime, context: Context) -> Moved:
    """What somebody's entries of some dates come to as far as they were recorded by an instant.

    Whole segments of the ledger are added up from their sums; one by one are read only the segments in which the
    instant lies (one, where no clock was set back) and the last entries, which fill no segment yet. The ``|| ''`` keeps
    SQLite from looking those up in the index of the person, who may have very many.
    """
    parameters = {
        "account": account_id,
        "first": days[0].isoformat(),
        "last": days[1].isoformat(),
        "known_at": stamp(known_at),
    }
    whole = _first(context, WHOLE_SEGMENTS, **parameters)
    rest = _first(context, OTHER_ENTRIES, **parameters)
    return Moved(whole.change_cents + rest.change_cents, whole.earned_cents + rest.earned_cents)


def closed_by(known_at: datetime, context: Context, *, up_to: date = date.max) -> date | None:
    """The latest day up to a date that was closed at an instant."""
    found = scalar(
        context.connection,
        "SELECT max(business_date) FROM billing_days WHERE business_date <= :up_to AND closed_at <= :known_at",
        up_to=up_to.isoformat(),
        known_at=stamp(known_at),
    )
    return date.fromisoformat(found) if found else None


def open_movements(closed: date | None, known_at: datetime | None, context: Context) -> list[Movement]:
    """What moved after the last closed day, by date and person."""
    parameters = {"closed": closed.isoformat() if closed else ""}
    if known_at is None:
        statement = _MOVEMENTS_NOW
    else:
        statement = _MOVEMENTS_THEN
        parameters["known_at"] = stamp(known_at)
    rows = context.connection.execute(text(statement), parameters)
    return [Movement(employee, date.fromisoformat(day), *cents) for employee, day, *cents in rows]


_BASE = (
    "coalesce((SELECT past.balance_cents FROM billing_account_days past WHERE past.employee_id = a.account_id"
    " AND past.business_date <= :closed ORDER BY past.business_date DESC LIMIT 1), 0)"
)
_MOVEMENTS_NOW = (
    "SELECT a.account_id, d.business_date, d.fees_cents, d.rewards_cents,"
    f" {_BASE} FROM billing_accounts a CROSS JOIN billing_account_days d"
    " WHERE d.employee_id = a.account_id AND d.business_date > :closed ORDER BY d.business_date"
)
_MOVEMENTS_THEN = (
    "SELECT a.account_id, e.business_date,"
    " sum(CASE e.kind WHEN 'fee' THEN e.amount_cents WHEN 'fee_reversal' THEN -e.amount_cents ELSE 0 END),"
    " sum(CASE e.kind WHEN 'reward' THEN e.amount_cents WHEN 'reward_reversal' THEN -e.amount_cents ELSE 0 END),"
    f" {_BASE} FROM billing_accounts a CROSS JOIN billing_entries e"
    " WHERE e.employee_id = a.account_id AND e.business_date > :closed AND e.recorded_at <= :known_at"
    " GROUP BY a.account_id, e.business_date ORDER BY e.business_date"
)


def _end_of(account_id: str, day: date, context: Context) -> int:
    found = scalar(
        context.connection,
        "SELECT balance_cents FROM billing_account_days WHERE employee_id = :account AND business_date <= :day"
        " ORDER BY business_date DESC LIMIT 1",
        account=account_id,
        day=day.isoformat(),
    )
    return found or 0


def _first(context: Context, statement: str, **parameters: Any) -> Any:
    return context.connection.execute(text(statement), parameters).first()
