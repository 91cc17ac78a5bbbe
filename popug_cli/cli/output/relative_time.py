"""How long ago something was, for people."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from popug_cli.kernel.calendar import Calendar

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
NAMED_DAYS = 6


def age(instant: datetime, now: datetime) -> str:
    """A time that has passed, in its largest unit: ``3 h``, ``5 days``."""
    passed = now - instant
    if passed < HOUR:
        return f"{max(0, passed // MINUTE)} min"
    if passed < 2 * DAY:
        return f"{passed // HOUR} h"
    days = passed // DAY
    return f"{days} days" if days < 100 else f"{days // 7} weeks"


def when(instant: datetime, now: datetime, calendar: "Calendar") -> str:
    """An instant as one speaks of it: ``5 min ago``, ``yesterday 14:05``, ``Monday 09:30``, ``2026-03-02``."""
    passed = now - instant
    if timedelta() <= passed < HOUR:
        return "just now" if passed < MINUTE else f"{passed // MINUTE} min ago"
    return clock(instant, now, calendar)


def until(instant: datetime, now: datetime) -> str:
    """A time to come, in its largest unit: ``in 3 h``."""
    return f"in {age(now, instant)}"


def clock(instant: datetime, now: datetime, calendar: "Calendar") -> str:
    """An instant as clock and calendar show it, with no more of the date than is needed."""
    local = calendar.local(instant)
    days = (calendar.date_of(now) - local.date()).days
    if days == 0:
        return f"{local:%H:%M}"
    if days == 1:
        return f"yesterday {local:%H:%M}"
    return f"{local:%A %H:%M}" if 0 < days <= NAMED_DAYS else f"{local:%Y-%m-%d}"
