"""What is said about one's own day."""

from datetime import date, datetime
from enum import StrEnum

import msgspec

from popug_cli.messages.base import EVERYONE, Count, Query, Role, declare
from popug_cli.messages.billing import TaskRef
from popug_cli.messages.tasks import Task


class ActivityKind(StrEnum):
    """What may happen to somebody."""

    GIVEN = "given"
    KEPT = "kept"
    TAKEN = "taken"
    COMPLETED = "completed"
    PAID = "paid"
    CORRECTED = "corrected"
    ROLE_CHANGED = "role_changed"


class Activity(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that happened to somebody.

    ``signed_cents`` is what it did to the balance, ``actor`` who did it, ``assignee`` who has a taken task now.
    """

    at: datetime
    what: ActivityKind
    actor: str
    task: TaskRef | None = None
    signed_cents: int | None = None
    assignee: str | None = None
    shuffle_id: str | None = None
    role: Role | None = None


class Today(msgspec.Struct, frozen=True):
    """One's own day: open tasks, money, what happened after a position of the log, and what waits to be done.

    ``tasks`` are the dearest of ``open_count``, ``happened`` the last of ``happened_count``; ``last_sequence`` is the
    position to ask from the next time. ``waiting`` are command lines.
    """

    username: str
    role: Role
    business_date: date
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


@declare("today", roles=EVERYONE)
class ShowToday(Query[Today], frozen=True, kw_only=True):
    """Ask for one's own day.

    What happened is told after a position of the log, else since an instant, else since the day began.
    """

    after: Count | None = None
    since: datetime | None = None
