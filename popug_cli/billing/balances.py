"""Balances at the end of a date, from all entries or from those recorded by an instant."""

from collections.abc import Collection
from datetime import date, datetime
from typing import NamedTuple

from popug_cli.billing import sql
from popug_cli.billing.rules import SEGMENT_ENTRIES, DayMovement, day_before
from popug_cli.bus.context import Context
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.kernel.errors import NotFound
from popug_cli.kernel.stored_values import from_iso_date


class Account(NamedTuple):
    """An employee's account; ``account_id`` is the user id."""

    account_id: str
    username: str
    balance_cents: int


class BalanceChange(NamedTuple):
    """The change of a balance, and the rewards in it net of reversals; in cents."""

    change_cents: int
    earned_cents: int


IN_ACCOUNT_AND_DATES = "employee_id = :account AND business_date BETWEEN :first AND :last"
SELECT_WHOLE_SEGMENTS = (
    "SELECT coalesce(sum(change_cents), 0) AS change_cents, coalesce(sum(earned_cents), 0) AS earned_cents"
    f" FROM billing_segments WHERE {IN_ACCOUNT_AND_DATES} AND last_recorded_at <= :as_of"
)
SELECT_REMAINING_ENTRIES = f"""
    SELECT coalesce(sum({sql.SIGNED}), 0) AS change_cents, coalesce(sum({sql.REWARDS}), 0) AS earned_cents
    FROM (
        SELECT segment, business_date AS first_date, business_date AS last_date FROM billing_segments
        WHERE {IN_ACCOUNT_AND_DATES} AND first_recorded_at <= :as_of AND last_recorded_at > :as_of
        UNION ALL SELECT coalesce(max(position), 0) / {SEGMENT_ENTRIES}, :first, :last FROM billing_entries
    ) AS scanned CROSS JOIN billing_entries entry
    WHERE entry.position BETWEEN scanned.segment * {SEGMENT_ENTRIES} + 1 AND (scanned.segment + 1) * {SEGMENT_ENTRIES}
        AND entry.employee_id || '' = :account AND entry.recorded_at <= :as_of
        AND entry.business_date BETWEEN scanned.first_date AND scanned.last_date
"""


def find_account(username: str | None, context: Context) -> Account:
    """Return the account of a user, by default the caller's. Raise ``user_not_found``.

    Before billing has processed the caller's registration, the caller's own account is returned with a balance of 0.
    """
    principal = context.principal
    name = (username or principal.username).lower()
    statement = "SELECT account_id, balance_cents FROM billing_accounts WHERE username = :name"
    row = context.connection.select_one(statement, name=name)
    if row is not None:
        account_id, balance_cents = row
        return Account(account_id, name, balance_cents)
    if principal.user_id and name == principal.username:
        return Account(principal.user_id, name, 0)
    raise NotFound(
        "user_not_found",
        f"There is no user called {name!r}.",
        hint="Check the spelling; an admin can list all users with `popug user list`.",
        details={"username": name},
    )


def usernames(user_ids: Collection[str], context: Context) -> dict[str, str]:
    """Return the usernames by user id; the name of a user that billing does not know is the id."""
    statement = "SELECT account_id, username FROM billing_accounts WHERE username IS NOT NULL AND account_id IN"
    return {user_id: user_id for user_id in user_ids} | dict(context.connection.select_in(statement, [*user_ids]))


def balance_at(account_id: str, day: date | None, as_of: datetime | None, context: Context) -> int:
    """Return the balance at the end of a date in cents; 0 if ``day`` is None, which precedes all dates.

    With ``as_of``, only entries recorded by then count.
    """
    if day is None:
        return 0
    if as_of is None:
        return _balance_at_day_end(account_id, day, context)
    return balance_change(account_id, (date.min, day), as_of, context).change_cents


def opening_balance(account_id: str, day: date, as_of: datetime | None, context: Context) -> int:
    """Return the balance at the start of a date in cents. With ``as_of``, only entries recorded by then count."""
    return balance_at(account_id, day_before(day), as_of, context)


def earned_on(account_id: str, day: date, as_of: datetime | None, context: Context) -> int:
    """Return the rewards of a business date net of reversals, in cents.

    With ``as_of``, only entries recorded by then count.
    """
    if as_of is not None:
        return balance_change(account_id, (day, day), as_of, context).earned_cents
    rewards_cents = context.connection.scalar(
        "SELECT rewards_cents FROM billing_account_days WHERE employee_id = :account AND business_date = :day",
        account=account_id,
        day=day.isoformat(),
    )
    return rewards_cents or 0


def balance_change(account_id: str, days: tuple[date, date], as_of: datetime, context: Context) -> BalanceChange:
    """Sum the entries of an account from the first to the last of ``days``, as far as they were recorded by ``as_of``.

    Full segments of the ledger contribute their stored sums. Individual entries are read only from the segments that
    contain ``as_of`` (one, unless the clock was set back) and from the incomplete last segment. The ``|| ''`` stops
    SQLite from using the index on the employee, who may have very many entries.
    """
    parameters = {
        "account": account_id,
        "first": days[0].isoformat(),
        "last": days[1].isoformat(),
        "as_of": to_rfc3339(as_of),
    }
    changes = [
        context.connection.records(statement, **parameters)[0]
        for statement in (SELECT_WHOLE_SEGMENTS, SELECT_REMAINING_ENTRIES)
    ]
    return BalanceChange(*(sum(change[name] for change in changes) for name in ("change_cents", "earned_cents")))


def closed_by(as_of: datetime, context: Context) -> date | None:
    """Return the latest day that was closed by an instant; None if there was none."""
    closed_day = context.connection.scalar(
        "SELECT max(business_date) FROM billing_days WHERE closed_at <= :as_of",
        as_of=to_rfc3339(as_of),
    )
    return from_iso_date(closed_day) if closed_day else None


def open_day_movements(closed: date | None, as_of: datetime | None, context: Context) -> list[DayMovement]:
    """Return the movements after the closed day ``closed``, one per employee and business date, ordered by date.

    If ``closed`` is None, all dates count. With ``as_of``, only entries recorded by then count.
    """
    parameters = {"closed": closed.isoformat() if closed else ""}
    if as_of is None:
        statement = _SELECT_MOVEMENTS
    else:
        statement = _SELECT_MOVEMENTS_AS_OF
        parameters["as_of"] = to_rfc3339(as_of)
    rows = context.connection.select(statement, **parameters)
    return [DayMovement(employee, from_iso_date(day), *cents) for employee, day, *cents in rows]


_BALANCE_AT_CLOSE = (
    "coalesce((SELECT past.balance_cents FROM billing_account_days past WHERE past.employee_id = account.account_id"
    " AND past.business_date <= :closed ORDER BY past.business_date DESC LIMIT 1), 0)"
)
_SELECT_MOVEMENTS = (
    "SELECT account.account_id, account_day.business_date, account_day.fees_cents, account_day.rewards_cents,"
    f" {_BALANCE_AT_CLOSE} FROM billing_accounts account CROSS JOIN billing_account_days account_day"
    " WHERE account_day.employee_id = account.account_id AND account_day.business_date > :closed"
    " ORDER BY account_day.business_date"
)
_SELECT_MOVEMENTS_AS_OF = (
    "SELECT account.account_id, entry.business_date,"
    f" sum({sql.FEES}), sum({sql.REWARDS}),"
    f" {_BALANCE_AT_CLOSE} FROM billing_accounts account CROSS JOIN billing_entries entry"
    " WHERE entry.employee_id = account.account_id AND entry.business_date > :closed AND entry.recorded_at <= :as_of"
    " GROUP BY account.account_id, entry.business_date ORDER BY entry.business_date"
)


def _balance_at_day_end(account_id: str, day: date, context: Context) -> int:
    balance_cents = context.connection.scalar(
        "SELECT balance_cents FROM billing_account_days WHERE employee_id = :account AND business_date <= :day"
        " ORDER BY business_date DESC LIMIT 1",
        account=account_id,
        day=day.isoformat(),
    )
    return balance_cents or 0
