"""Parse dates and times as people type them."""

import re
from datetime import UTC, date, datetime, time, timedelta

from popug_cli.cli.context import CommandContext
from popug_cli.kernel.errors import InvalidInput

RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
SHORT_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
EARLIEST_DATE, LATEST_DATE = date(2, 1, 1), date(9998, 12, 30)
DAYS_OF_UNIT = {"day": 1, "week": 7}

_WEEKDAY = re.compile(r"(?:last )?(mon|tue|wed|thu|fri|sat|sun)(?:day|sday|nesday|rsday|urday)?")
_TIME_AGO = re.compile(r"([0-9]{1,6}) ?(h|hours?|m|min|minutes?) ago")
_TIME_OF_DAY = re.compile(r"(?:([0-9]{4}-[0-9]{2}-[0-9]{2})[ t])?([0-9]{1,2}:[0-9]{2})")
_DAYS_AGO = re.compile(r"([0-9]{1,5}) (day|week)s? ago")


def parse_day(text: str, today: date) -> date:
    """Parse an ISO date, ``today``, ``yesterday``, ``3 days ago`` or the last ``monday``, which may be today.

    Raises ``invalid_date``.
    """
    words = " ".join(text.lower().split())
    if words in {"today", "yesterday"}:
        return _days_before(today, 1 if words == "yesterday" else 0)
    if match := _WEEKDAY.fullmatch(words):
        return _days_before(today, (today.weekday() - SHORT_WEEKDAYS.index(match[1])) % 7)
    if match := _DAYS_AGO.fullmatch(words):
        return _days_before(today, int(match[1]) * DAYS_OF_UNIT[match[2]])
    return parse_date(text)


def parse_date(text: str, *, accepted_words: str = "today, yesterday, monday or 3 days ago") -> date:
    """Parse an ISO date; raises ``invalid_date``, whose hint names the words that the caller accepts instead."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    if day is None or day.isoformat() != text:
        raise InvalidInput(
            "invalid_date",
            f"{text!r} is not a valid date.",
            hint=f"Write it as 2026-03-02, or say {accepted_words}.",
            details={"date": text},
        )
    return day


def parse_time(text: str) -> datetime:
    """Parse an RFC 3339 instant; raises ``invalid_time``.

    An instant near the ends of the calendar is moved to the nearest one that has a date in every time zone.
    """
    instant = _parse_rfc_3339(text) if RFC_3339.fullmatch(text) else None
    if instant is None:
        raise InvalidInput(
            "invalid_time",
            f"{text!r} is not a valid instant.",
            hint="Write it as 2026-03-02T09:30:00Z or 2026-03-02T10:30:00+01:00.",
            details={"time": text},
        )
    return instant


def parse_day_or_time(text: str, today: date) -> tuple[date | None, datetime | None]:
    """Parse an instant if the text has a colon, else a date; return None for the other. Raises the errors of both."""
    return (None, parse_time(text)) if ":" in text else (parse_day(text, today), None)


def start_of(context: CommandContext, text: str) -> datetime:
    """Parse an instant, or return the first instant of a date; raises ``invalid_date`` or ``invalid_time``.

    Times such as ``09:30``, ``2026-03-02 09:30`` and ``2 hours ago`` are instants, too.
    """
    return _first_instant(context, text, days_later=0)


def end_of(context: CommandContext, text: str) -> datetime:
    """Parse an instant as ``start_of`` does, or return the first instant after a date. Raises the same errors."""
    return _first_instant(context, text, days_later=1)


def company_today(context: CommandContext) -> date:
    """Return today's date in the company's time zone."""
    now = context.backends.active.now()
    return context.backends.active.calendar.date_of(now)


def day_option(context: CommandContext, text: str | None) -> date | None:
    """Return the date of an option, or None if the option was not given; raises ``invalid_date``."""
    return None if text is None else parse_day(text, company_today(context))


def _first_instant(context: CommandContext, text: str, *, days_later: int) -> datetime:
    words = " ".join(text.lower().split())
    if match := _TIME_AGO.fullmatch(words):
        ago = timedelta(hours=int(match[1])) if match[2].startswith("h") else timedelta(minutes=int(match[1]))
        return max(context.backends.active.now() - ago, datetime.combine(EARLIEST_DATE, time(), UTC))
    if (match := _TIME_OF_DAY.fullmatch(words)) and (time_of_day := _parse_time_of_day(match[2])) is not None:
        return context.backends.active.calendar.first_instant_of(
            _clamp(parse_day(match[1] or "today", company_today(context))), time_of_day
        )
    day, instant = parse_day_or_time(text, company_today(context))
    if instant is not None:
        return instant
    assert day is not None
    return context.backends.active.calendar.first_instant_of(_clamp(day) + timedelta(days=days_later), time())


def _clamp(day: date) -> date:
    return max(EARLIEST_DATE, min(day, LATEST_DATE))


def _parse_time_of_day(text: str) -> time | None:
    try:
        return time.fromisoformat(text.zfill(5))
    except ValueError:
        return None


def _days_before(today: date, days: int) -> date:
    return date.fromordinal(max(1, today.toordinal() - days))


def _parse_rfc_3339(text: str) -> datetime | None:
    try:
        instant = datetime.fromisoformat(text.upper())
    except ValueError:
        return None
    if instant.date() < EARLIEST_DATE or instant.date() > LATEST_DATE:
        return datetime.combine(min(max(instant.date(), EARLIEST_DATE), LATEST_DATE), time(), UTC)
    return instant.astimezone(UTC)
