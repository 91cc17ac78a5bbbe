"""Internal messages of billing."""

from datetime import date, datetime

import msgspec

from popug_cli.messages.analytics import Analytics
from popug_cli.messages.base import (
    ACCOUNTING,
    ADMINS,
    EVERYONE,
    Command,
    Count,
    Id,
    Instant,
    Limit,
    Query,
    Role,
    declare,
)
from popug_cli.messages.billing import ClosedDay
from popug_cli.messages.company import Explanation
from popug_cli.messages.today import ActivityKind


class OwnActivity(msgspec.Struct, frozen=True, kw_only=True):
    """An activity about a task or the money of the sender; ``sequence`` is the position of its event in the log.

    ``business_date`` is the date that its money counts for, if that is after today. ``signed_cents`` is its effect on
    the balance. An assignment charges the fee of its task, which is not part of it.
    """

    sequence: int
    at: datetime
    what: ActivityKind
    actor: str
    task_id: str | None = None
    signed_cents: int | None = None
    assignee: str | None = None
    shuffle_id: str | None = None
    business_date: date | None = None


class OwnActivities(msgspec.Struct, frozen=True):
    """The last ``activities`` of ``total``, oldest first: those ``since`` an instant.

    Their events are at log positions greater than ``after``; ``last_sequence`` is the end of the log.
    """

    since: datetime
    after: int
    last_sequence: int
    total: int
    activities: list[OwnActivity]


@declare("today", roles=EVERYONE, handler="billing.today")
class ListOwnActivities(Query[OwnActivities], frozen=True, kw_only=True):
    """Return the sender's activities after a position, else since an instant, else since the day began."""

    limit: Limit
    after: Count | None = None
    since: Instant | None = None


@declare("explain task", roles=EVERYONE, handler="billing.explain")
class ExplainTaskEntries(Query[Explanation], frozen=True, kw_only=True):
    """Explain the effects of a task on the balances that the sender may see."""

    task_id: Id


@declare("analytics", roles=ADMINS, handler="billing.as_of")
class GetAnalyticsAsOf(Query[Analytics], frozen=True, kw_only=True):
    """Return the figures of a date, by default that of ``as_of_time``, as the ledger had them at that instant."""

    as_of_time: Instant
    day: date | None = None


class CloseDate(msgspec.Struct, frozen=True):
    """The last day that a close would close."""

    up_to: date


class PaidDay(msgspec.Struct, frozen=True):
    """A closed day, and the sum of its payouts."""

    business_date: date
    payouts_cents: int


class NextDay(msgspec.Struct, frozen=True):
    """The oldest open day up to a date, or None if none is open."""

    day: date | None


class FoundDay(msgspec.Struct, frozen=True):
    """A closed day, or None if there is none."""

    day: ClosedDay | None


class ClosedDays(msgspec.Struct, frozen=True):
    """Days that a close would close, oldest first."""

    days: list[ClosedDay]


class OpenDays(msgspec.Struct, frozen=True):
    """The first open day, None before the company has days, and the number of open days up to a date.

    With ``needs_confirmation``, they are too many to close at once without it.
    """

    first: date | None
    count: int
    needs_confirmation: bool


class AmountsAtStake(msgspec.Struct, frozen=True):
    """The money at stake in the events that billing has parked, in cents by ``dead_id``."""

    cents: dict[int, int]


@declare("close-day", roles=ACCOUNTING, handler="billing.close_day")
class GetCloseDate(Query[CloseDate], frozen=True, kw_only=True):
    """Return the last day to close, and refuse a day that may not be closed; the fields are those of ``CloseDay``."""

    day: date | None = None
    yesterday: bool = False
    dry_run: bool = False
    confirmed: bool = False


@declare("close-day", roles=ACCOUNTING, handler="billing.close_day")
class CheckNextDay(Command[NextDay], frozen=True, kw_only=True):
    """Return the oldest open day up to a date; ``closed`` are the days that the same close has closed already.

    It is refused if ``expected_payouts_cents`` is given and is not the total of all days; this is checked before the
    first day and before the last one. It needs a write transaction, and changes nothing.
    """

    up_to: date
    expected_payouts_cents: Count | None = None
    closed: tuple[PaidDay, ...] = ()


@declare("close-day", roles=ACCOUNTING, handler="billing.close_day")
class CloseNextDay(Command[FoundDay], frozen=True, kw_only=True):
    """Close the oldest open day up to a date, which tasks has ended.

    ``ended_by`` is the id of the ``day_ended``, or None if the same transaction ends the day, or if tasks had ended it
    before such events existed. The close is refused with ``behind`` if billing has not consumed that event.
    """

    up_to: date
    ended_by: Id | None = None


@declare("close-day", roles=ACCOUNTING, handler="billing.close_day")
class PreviewClose(Command[ClosedDays], frozen=True, kw_only=True):
    """Return the days that a close up to a date would close; it needs a write transaction, and changes nothing."""

    up_to: date


@declare("close-day", roles=ACCOUNTING, handler="billing.close_day")
class GetClosedDay(Query[FoundDay], frozen=True, kw_only=True):
    """Return a day if it is closed."""

    day: date


@declare("close-day", roles=ACCOUNTING, handler="billing.close_day")
class GetOpenDays(Query[OpenDays], frozen=True, kw_only=True):
    """Return the first open day, and how many days up to a date are open."""

    up_to: date


@declare("close-day", roles=ACCOUNTING, handler="billing.at_stake")
class GetAmountsAtStake(Query[AmountsAtStake], frozen=True, kw_only=True):
    """Return the money at stake in the events that billing has parked: in one of them, or in all."""

    dead_id: int | None = None


class RoleChange(msgspec.Struct, frozen=True):
    """A change of the sender's role; ``sequence`` is the position of its event in the log."""

    sequence: int
    at: datetime
    actor: str
    role: Role


class RoleChanges(msgspec.Struct, frozen=True):
    """The changes of the sender's role, oldest first."""

    changes: list[RoleChange]


@declare("today", roles=EVERYONE, handler="billing.today")
class ListRoleChanges(Query[RoleChanges], frozen=True, kw_only=True):
    """Return the changes of the sender's role after a position in the log."""

    after: Count
