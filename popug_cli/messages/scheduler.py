"""Messages of the scheduler."""

from datetime import date, datetime

import msgspec

from popug_cli.messages.base import Access, Command, Query, declare
from popug_cli.messages.billing import ClosedDay
from popug_cli.messages.mail import MailRunResult


class Schedule(msgspec.Struct, frozen=True):
    """The next scheduled work: the day to be closed next and when, and the mail still to be sent.

    ``overdue_days`` counts the days that could be closed already; with ``needs_yes``, they are too many to close
    without confirmation.
    """

    time_zone: str
    closes: date | None
    closes_at: datetime | None
    overdue_days: int
    needs_yes: bool
    mail_queued: int


class ScheduledRunResult(msgspec.Struct, frozen=True):
    """The work that one run of the scheduler did, and the work scheduled next.

    ``set_aside`` counts the events that consumers have parked; ``backup`` is the path of a backup that was taken.
    """

    at: datetime
    days: list[ClosedDay]
    mail: MailRunResult
    set_aside: int
    backup: str | None
    next: Schedule


@declare("scheduler", access=Access.OPERATOR)
class ShowSchedule(Query[Schedule], frozen=True, kw_only=True):
    """Return the next scheduled work; the fields are those of ``RunDue``."""

    at_minute: int = 0
    confirmed: bool = False


@declare("scheduler", access=Access.OPERATOR)
class RunDue(Command[ScheduledRunResult], frozen=True, kw_only=True):
    """Do the due work: retry events, close days up to yesterday, queue summaries, send mail, write the daily backup.

    Yesterday is closed from ``at_minute``, the local minute of the day. ``confirmed`` allows more than 31 days at once.
    """

    at_minute: int = 0
    confirmed: bool = False
