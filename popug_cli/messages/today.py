"""Messages of the user's own day."""

from datetime import date, datetime
from enum import StrEnum

import msgspec

from popug_cli.messages.base import EVERYONE, Count, Instant, Query, Role, declare
from popug_cli.messages.billing import TaskRef
from popug_cli.messages.tasks import Task


class ActivityKind(StrEnum):
    """The kinds of activities that concern a user."""

    GIVEN = "given"
    KEPT = "kept"
    TAKEN = "taken"
    COMPLETED = "completed"
    PAID = "paid"
    CORRECTED = "corrected"
    ROLE_CHANGED = "role_changed"


class Activity(msgspec.Struct, frozen=True, omit_defaults=True):
    """An activity that concerns a user.

    ``signed_cents`` is its effect on the balance, ``actor`` the user who caused it. ``assignee`` is the new assignee of
    a task that was taken away. ``business_date`` is the date that the money counts for, if that is after today.
    """

    at: datetime
    what: ActivityKind
    actor: str
    task: TaskRef | None = None
    signed_cents: int | None = None
    assignee: str | None = None
    shuffle_id: str | None = None
    role: Role | None = None
    business_date: date | None = None


class Today(msgspec.Struct, frozen=True):
    """The sender's own day: open tasks, money, recent activity, and suggested commands.

    ``tasks`` are the most expensive of ``open_count``, ``happened`` the last of ``happened_count``. ``last_sequence``
    is the position to ask from the next time. ``waiting`` are command lines. ``mail_failed`` counts the failed
    mails; it is 0 for a sender who may not see them. ``open_business_date`` is the date that what happens now counts
    for, and that of ``earned_today_cents``; it is later than ``business_date`` once that is closed. ``problems`` are
    sentences on consumers that stop at an event which only a newer program knows, so that the figures lack it.
    """

    username: str
    role: Role
    business_date: date
    open_business_date: date
    balance_cents: int
    earned_today_cents: int
    tasks: list[Task]
    open_count: int
    fees_cents: int
    rewards_cents: int
    since: datetime
    happened: list[Activity]
    happened_count: int
    last_sequence: int
    waiting: list[str]
    mail_failed: int = 0
    problems: list[str] = []


@declare("today", roles=EVERYONE)
class ShowToday(Query[Today], frozen=True, kw_only=True):
    """Return the sender's own day.

    Activity is reported after a position of the log, else since an instant, else since the day began.
    """

    after: Count | None = None
    since: Instant | None = None
