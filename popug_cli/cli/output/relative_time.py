"""Times relative to now, for people."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from popug_cli.kernel.text import counted

if TYPE_CHECKING:
    from popug_cli.kernel.calendar import Calendar

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
MAX_NAMED_DAYS = 6


def age(instant: datetime, now: datetime) -> str:
    """Return the time since an instant: ``5 min``, ``3 h`` (up to two days), ``5 days`` (up to 99) or ``20 weeks``."""
    elapsed = now - instant
    if elapsed < HOUR:
        return f"{max(0, elapsed // MINUTE)} min"
    if elapsed < 2 * DAY:
        return f"{elapsed // HOUR} h"
    days = elapsed // DAY
    return counted(days, "day") if days < 100 else counted(days // 7, "week")


def when(instant: datetime, now: datetime, calendar: "Calendar") -> str:
    """Return an instant as people say it: ``5 min ago``, ``yesterday 14:05``, ``Monday 09:30``, ``2026-03-02``."""
    elapsed = now - instant
    if timedelta() <= elapsed < HOUR:
        return "just now" if elapsed < MINUTE else f"{elapsed // MINUTE} min ago"
    return clock(instant, now, calendar)


def until(instant: datetime, now: datetime) -> str:
    """Return the time until an instant, in the unit of ``age``: ``in 3 h``."""
    return f"in {age(now, instant)}"


def clock(instant: datetime, now: datetime, calendar: "Calendar") -> str:
    """Return an instant as local time: ``14:05``, ``yesterday 14:05``, ``Monday 14:05`` (up to six days ago) or a date.

    A future day is written as a date.
    """
    local = calendar.local(instant)
    days = (calendar.date_of(now) - local.date()).days
    if days == 0:
        return f"{local:%H:%M}"
    if days == 1:
        return f"yesterday {local:%H:%M}"
    return f"{local:%A %H:%M}" if 0 < days <= MAX_NAMED_DAYS else f"{local:%Y-%m-%d}"
