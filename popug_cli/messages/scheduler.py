"""What is said between the scheduler and the company."""

from datetime import date, datetime

import msgspec

from popug_cli.messages.base import Access, Command, Query, declare
from popug_cli.messages.billing import ClosedDay
from popug_cli.messages.mail import MailRunResult


class Schedule(msgspec.Struct, frozen=True):
    """What comes next: the day that is closed next and when, and mail still to be sent.

    ``overdue_days`` is how many days could be closed already; with ``needs_yes`` they are too many to close unasked.
    """

    time_zone: str
    closes: date | None
    closes_at: datetime | None
    overdue_days: int
    needs_yes: bool
    mail_queued: int


class ScheduledRunResult(msgspec.Struct, frozen=True):
    """What one run of the scheduler did, and what comes next.

    ``set_aside`` counts what no consumer could take, ``backup`` is the path of the backup that was taken.
    """

    at: datetime
    days: list[ClosedDay]
    mail: MailRunResult
    set_aside: int
    backup: str | None
    next: Schedule


@declare("scheduler", access=Access.OPERATOR)
class ShowSchedule(Query[Schedule], frozen=True, kw_only=True):
    """Ask what comes next; the fields are those of ``RunDue``."""

    at_minute: int = 0
    confirmed: bool = False


@declare("scheduler", access=Access.OPERATOR)
class RunDue(Command[ScheduledRunResult], frozen=True, kw_only=True):
    """Do what is due: close days up to yesterday, send mail, retry events.

    ``at_minute`` is the local minute of the day from which on yesterday is closed; ``confirmed`` allows more than 31
    days at once.
    """

    at_minute: int = 0
    confirmed: bool = False
